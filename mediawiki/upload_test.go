package mediawiki_test

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

// asAlice returns a client that sends an owner-only access token.
func asAlice(t testing.TB, wiki *mediawikitest.Server, transport http.RoundTripper, config mediawiki.Config) *mediawiki.Client {
	t.Helper()
	alice := wiki.AddClient(mediawikitest.Client{Owner: "Alice"})
	config.UserAgent = userAgent
	config.HTTPClient = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+alice.AccessToken)
		return transport.RoundTrip(req)
	})}
	c, err := mediawiki.NewClient(wiki.APIURL(), config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type uploadResult struct {
	Upload struct {
		Result    string
		Imageinfo struct {
			Size int64
			Sha1 string
		}
	}
}

// A stream is a reader and nothing else.
type stream struct{ io.Reader }

func TestUpload(t *testing.T) {
	const text = "0123456789"
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	io.WriteString(file, "skipped"+text)
	file.Seek(7, io.SeekStart)
	half := strings.NewReader("skipped" + text)
	half.Seek(7, io.SeekStart)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		io.WriteString(write, text)
		write.Close()
	}()
	for _, test := range []struct {
		name    string
		content io.Reader
		length  bool
	}{
		{"reader.png", strings.NewReader(text), true},
		{"half.png", half, true},
		{"file.png", file, true},
		{"stream.png", stream{strings.NewReader(text)}, false},
		{"pipe.png", read, false},
		{`quo"te ü.png`, strings.NewReader(text), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			wiki := mediawikitest.NewUnstartedServer()
			c := asAlice(t, wiki, roundTrip(func(req *http.Request) (*http.Response, error) {
				if (req.ContentLength > 0) != test.length && req.Method == "POST" {
					t.Errorf("Content-Length %d", req.ContentLength)
				}
				return wiki.Transport().RoundTrip(req)
			}), mediawiki.Config{})
			var result uploadResult
			err := c.PostWithToken(t.Context(), "csrf", mediawiki.Params{
				"action": "upload", "filename": test.name, "file": mediawiki.File{Name: test.name, Content: test.content}, "comment": "a|b&c",
			}, &result)
			info := result.Upload.Imageinfo
			if err != nil || result.Upload.Result != "Success" || info.Size != 10 || info.Sha1 != fmt.Sprintf("%x", sha1.Sum([]byte(text))) {
				t.Errorf("%+v, %v", result, err)
			}
			log := wiki.Requests()
			if got := log[len(log)-1]; got.Query.Encode() != "action=upload" || got.Form.Get("comment") != "a|b&c" || got.Form.Get("filename") != test.name {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestUploadAgain(t *testing.T) {
	for _, test := range []struct {
		name    string
		content func() io.Reader
		want    string // of the error; empty: none
		posts   int
	}{
		{"seekable", func() io.Reader { return strings.NewReader("0123456789") }, "", 2},
		{"stream", func() io.Reader { return stream{strings.NewReader("0123456789")} }, "cannot be sent a second time", 1},
	} {
		for _, trouble := range []string{"maxlag", "503", "badtoken"} {
			t.Run(test.name+"/"+trouble, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					wiki := mediawikitest.NewUnstartedServer()
					posts := 0
					c := asAlice(t, wiki, roundTrip(func(req *http.Request) (*http.Response, error) {
						if req.Method != "POST" {
							return wiki.Transport().RoundTrip(req)
						}
						if posts++; posts > 1 {
							return wiki.Transport().RoundTrip(req)
						}
						io.Copy(io.Discard, req.Body)
						if trouble == "503" {
							return answer(503, "<h1>", "Retry-After", "1"), nil
						}
						return answer(200, `{"errors":[{"code":"`+trouble+`"}]}`, "MediaWiki-API-Error", trouble), nil
					}), mediawiki.Config{})
					var result uploadResult
					upload := func() error {
						return c.PostWithToken(t.Context(), "csrf", mediawiki.Params{
							"action": "upload", "filename": "A.png", "file": mediawiki.File{Name: "A.png", Content: test.content()},
						}, &result)
					}
					err := upload()
					if test.want == "" {
						if err != nil || result.Upload.Imageinfo.Size != 10 {
							t.Errorf("%+v, %v", result, err)
						}
					} else if err == nil || !strings.Contains(err.Error(), test.want) || trouble != "503" && !mediawiki.HasCode(err, trouble) {
						t.Errorf("%v, want %q and the code", err, test.want)
					}
					if posts != test.posts {
						t.Errorf("%d requests, want %d", posts, test.posts)
					}
					if err := upload(); err != nil {
						t.Errorf("made anew: %v", err)
					}
				})
			})
		}
	}
}

func TestUploadErrors(t *testing.T) {
	c := newClient(t, mediawiki.Config{}, func(req *http.Request) (*http.Response, error) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		return answer(200, "{}"), nil
	})
	file := mediawiki.File{Name: "a", Content: strings.NewReader("")}
	if err := c.Get(t.Context(), mediawiki.Params{"file": file}, nil); err == nil || !strings.Contains(err.Error(), "use Post") {
		t.Errorf("GET: %v", err)
	}
	if err := c.Post(t.Context(), mediawiki.Params{"file": mediawiki.File{}}, nil); err == nil || !strings.Contains(err.Error(), `"file"`) {
		t.Errorf("no content: %v", err)
	}
	broken := errors.New("disk gone")
	if err := c.Post(t.Context(), mediawiki.Params{"file": mediawiki.File{Name: "a", Content: stream{failing{broken}}}}, nil); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := mediawiki.NewClient("wiki.test", mediawiki.Config{UserAgent: userAgent, Params: mediawiki.Params{"file": file}}); err == nil {
		t.Error("a file among the defaults is taken")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// zeros are n bytes, and measure the heap while they are read.
type zeros struct {
	n, next int64
	heap    uint64 // the most that was seen
}

func (z *zeros) Read(b []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), z.n)
	clear(b[:n])
	if z.n -= n; z.n < z.next {
		z.next -= 16 << 20
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		z.heap = max(z.heap, m.HeapAlloc)
	}
	return int(n), nil
}

// TestUploadHoldsNothing uploads 1 GiB to the fake wiki over loopback.
func TestUploadHoldsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("uploads 1 GiB")
	}
	wiki := mediawikitest.NewServer()
	defer wiki.Close()
	c := asAlice(t, wiki, http.DefaultTransport, mediawiki.Config{})
	const size = 1 << 30
	content := &zeros{n: size, next: size}
	runtime.GC()
	var result uploadResult
	err := c.PostWithToken(t.Context(), "csrf", mediawiki.Params{
		"action": "upload", "filename": "Zeros.bin", "file": mediawiki.File{Name: "Zeros.bin", Content: content},
	}, &result)
	if err != nil || result.Upload.Imageinfo.Size != size {
		t.Fatalf("%+v, %v", result, err)
	}
	t.Logf("at most %d KiB of heap", content.heap>>10)
	if content.heap == 0 || content.heap > 32<<20 {
		t.Errorf("%d bytes of heap, want at most 32 MiB", content.heap)
	}
}

// slow is a byte a minute.
type slow struct{ n int }

func (s *slow) Read(b []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	s.n--
	time.Sleep(time.Minute)
	return copy(b, "x"), nil
}

func TestTimeLimit(t *testing.T) {
	hang := func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, context.Cause(req.Context())
	}
	silent := func(req *http.Request) (*http.Response, error) {
		r, w := io.Pipe()
		context.AfterFunc(req.Context(), func() { w.CloseWithError(context.Cause(req.Context())) })
		resp := answer(200, "")
		resp.Body = r
		return resp, nil
	}
	working := func(req *http.Request) (*http.Response, error) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		return answer(200, "{}"), nil
	}
	for _, test := range []struct {
		name string
		send roundTrip
		do   func(context.Context, *mediawiki.Client) error
		want time.Duration
	}{
		{"GET", hang, func(ctx context.Context, c *mediawiki.Client) error { return c.Get(ctx, nil, nil) }, 75 * time.Second},
		{"POST", hang, func(ctx context.Context, c *mediawiki.Client) error { return c.Post(ctx, nil, nil) }, 4 * time.Minute},
		{"REST", hang, func(ctx context.Context, c *mediawiki.Client) error {
			return c.REST(ctx, "DELETE", "/a", nil, nil, nil)
		}, 4 * time.Minute},
		{"an answer that stops", silent, func(ctx context.Context, c *mediawiki.Client) error { return c.Get(ctx, nil, nil) }, 75 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := test.do(t.Context(), newClient(t, mediawiki.Config{}, test.send))
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != test.want {
					t.Errorf("%v after %v, want %v", err, time.Since(start), test.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := newClient(t, mediawiki.Config{}, working).Post(t.Context(), mediawiki.Params{"file": mediawiki.File{Name: "a", Content: stream{&slow{60}}}}, nil)
		if err != nil || time.Since(start) != time.Hour {
			t.Errorf("an upload of an hour: %v after %v", err, time.Since(start))
		}
	})
}
