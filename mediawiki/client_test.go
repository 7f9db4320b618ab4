package mediawiki_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const userAgent = "test/1.0 (test@tool.example)"

// roundTrip is a transport of one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answer(status int, body string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

func newClient(t testing.TB, config mediawiki.Config, f roundTrip) *mediawiki.Client {
	t.Helper()
	config.UserAgent = userAgent
	config.HTTPClient = &http.Client{Transport: f}
	c, err := mediawiki.NewClient("wiki.test", config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewClient(t *testing.T) {
	for _, test := range []struct{ wiki, userAgent, want, fails string }{
		{"en.wikipedia.org", userAgent, "https://en.wikipedia.org/w/api.php", ""},
		{" en.wikipedia.org\n", userAgent, "https://en.wikipedia.org/w/api.php", ""},
		{"https://wiki.test/api.php", userAgent, "https://wiki.test/api.php", ""},
		{"http://127.0.0.1:8080/w/api.php", userAgent, "http://127.0.0.1:8080/w/api.php", ""},
		{"http://[::1]:8080/w/api.php", userAgent, "http://[::1]:8080/w/api.php", ""},
		{"http://localhost/w/api.php", userAgent, "http://localhost/w/api.php", ""},
		{"http://wiki.test/w/api.php", userAgent, "", "not https"},
		{"ftp://wiki.test/w/api.php", userAgent, "", "not https"},
		{"https://wiki.test/w/", userAgent, "", "neither"},
		{"https://wiki.test", userAgent, "", "neither"},
		{"", userAgent, "", "neither"},
		{"https://a:HIDDEN@wiki.test/w/api.php", userAgent, "", "no user"},
		{"https://wiki.test/w/api.php?a", userAgent, "", "no user, query"},
		{"https://wiki.test/w/api.php#a", userAgent, "", "no user, query"},
		{"wiki.test", "", "", "UserAgent"},
		{"wiki.test", "a\nb", "", "UserAgent"},
	} {
		c, err := mediawiki.NewClient(test.wiki, mediawiki.Config{UserAgent: test.userAgent})
		if test.fails == "" {
			if err != nil || c.APIURL().String() != test.want {
				t.Errorf("%q: %v, %v; want %s", test.wiki, c.APIURL(), err, test.want)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.fails) || strings.Contains(err.Error(), "HIDDEN") {
			t.Errorf("%q: %v, want %q", test.wiki, err, test.fails)
		}
	}
	if _, err := mediawiki.NewClient("wiki.test", mediawiki.Config{UserAgent: userAgent, Params: mediawiki.Params{"a": struct{}{}}}); err == nil {
		t.Error("unfit defaults are taken")
	}
}

type stringer struct{}

func (stringer) String() string { return "S" }

func TestParams(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, test := range []struct {
		value any
		want  string // "-": left out; "!": an error
	}{
		{"a", "a"}, {"", ""}, {nil, "-"}, {true, ""}, {false, "-"}, {7, "7"}, {int64(-7), "-7"}, {uint8(7), "7"},
		{1.5, "1.5"}, {float32(0.1), "0.1"}, {1e21, "1000000000000000000000"}, {stringer{}, "S"},
		{time.Date(2026, 11, 23, 20, 0, 0, 0, zone), "2026-11-23T19:00:00Z"},
		{[]string{"a", "b"}, "a|b"}, {[]string{}, ""}, {[]string{"a|b"}, "\x1fa|b"}, {[]string{"a|b", "c"}, "\x1fa|b\x1fc"},
		{[]int{1, 2}, "1|2"}, {[]int64{1, 2}, "1|2"}, {[]any{1, "b", true, nil, false}, "1|b|"},
		{struct{}{}, "!"}, {[]any{struct{}{}}, "!"}, {map[string]string{}, "!"}, {[]byte("a"), "!"},
	} {
		var got url.Values
		c := newClient(t, mediawiki.Config{}, func(req *http.Request) (*http.Response, error) {
			got = req.URL.Query()
			return answer(200, "{}"), nil
		})
		err := c.Get(t.Context(), mediawiki.Params{"p": test.value}, nil)
		switch {
		case test.want == "!":
			if err == nil || !strings.Contains(err.Error(), `"p"`) {
				t.Errorf("%v: %v, want an error that names the parameter", test.value, err)
			}
		case err != nil || got.Has("p") == (test.want == "-") || got.Has("p") && got.Get("p") != test.want:
			t.Errorf("%#v is sent as %q (%v), want %q", test.value, got["p"], err, test.want)
		}
	}
}

func TestRequests(t *testing.T) {
	var req *http.Request
	var body string
	c := newClient(t, mediawiki.Config{Params: mediawiki.Params{"maxlag": 5, "errorformat": "html"}}, func(r *http.Request) (*http.Response, error) {
		req, body = r, ""
		if r.Body != nil {
			data, _ := io.ReadAll(r.Body)
			body = string(data)
		}
		return answer(200, `{"a":1}`), nil
	})
	var result struct{ A int }
	if err := c.Get(t.Context(), mediawiki.Params{"action": "query", "maxlag": nil}, &result); err != nil || result.A != 1 {
		t.Error(err, result)
	}
	if got, want := req.URL.String(), "https://wiki.test/w/api.php?action=query&errorformat=html&format=json&formatversion=2"; got != want || req.Method != "GET" {
		t.Errorf("%s %s, want %s", req.Method, got, want)
	}
	if req.Header.Get("User-Agent") != userAgent {
		t.Errorf("User-Agent %q", req.Header.Get("User-Agent"))
	}
	if err := c.Post(t.Context(), mediawiki.Params{"action": "edit", "text": "a&b"}, nil); err != nil {
		t.Error(err)
	}
	if req.Method != "POST" || req.URL.RawQuery != "action=edit" || body != "errorformat=html&format=json&formatversion=2&maxlag=5&text=a%26b" {
		t.Errorf("%s %s with %s", req.Method, req.URL, body)
	}
	if err := c.Get(t.Context(), mediawiki.Params{"titles": strings.Repeat("x", 9000)}, nil); err == nil || !strings.Contains(err.Error(), "Post") {
		t.Errorf("a long GET: %v", err)
	}
	if err := c.REST(t.Context(), "PUT", "/v1/page/"+url.PathEscape("A/B?"), map[string]string{"source": "x"}, nil); err != nil {
		t.Error(err)
	}
	if got := req.URL.String(); got != "https://wiki.test/w/rest.php/v1/page/A%2FB%3F" || body != `{"source":"x"}` || req.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s with %s", got, body)
	}
	if err := c.REST(t.Context(), "GET", "/%zz", nil, nil); err == nil {
		t.Error("an unfit path is taken")
	}
	if err := c.REST(t.Context(), "GET", "/a", func() {}, nil); err == nil {
		t.Error("an unfit body is taken")
	}
	if err := c.REST(t.Context(), "GET", "/a", nil, new([]int)); err == nil {
		t.Error("an unfit result is taken")
	}
	if err := c.Get(t.Context(), nil, new([]int)); err == nil {
		t.Error("an unfit result is taken")
	}
}

func TestDoAndRoundTrip(t *testing.T) {
	var seen []*http.Request
	c := newClient(t, mediawiki.Config{}, func(r *http.Request) (*http.Response, error) {
		seen = append(seen, r)
		switch r.URL.Path {
		case "/w/away":
			return answer(302, "", "Location", "https://sub.wiki.test/w/there"), nil
		case "/w/out":
			return answer(302, "", "Location", "/tool/there"), nil
		case "/w/here":
			return answer(302, "", "Location", "there"), nil
		case "/w/circle":
			return answer(302, "", "Location", "circle"), nil
		}
		return answer(200, "{}"), nil
	})
	for path, want := range map[string]string{"away": "", "out": "", "here": "Bearer x"} {
		seen = nil
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://wiki.test/w/"+path, nil)
		req.Header.Set("Authorization", "Bearer x")
		if _, err := c.Do(req); err != nil {
			t.Fatal(err)
		}
		if got := seen[len(seen)-1].Header.Get("Authorization"); len(seen) != 2 || got != want {
			t.Errorf("%s: %d requests, Authorization %q, want %q", path, len(seen), got, want)
		}
		if req.Header.Get("User-Agent") != "" || seen[0].Header.Get("User-Agent") != userAgent {
			t.Error("the request has changed, or no User-Agent was sent")
		}
		seen = nil
		if resp, err := c.RoundTrip(req); err != nil || resp.StatusCode != 302 || len(seen) != 1 {
			t.Errorf("RoundTrip follows a redirect: %v", err)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://wiki.test/w/circle", nil)
	req.Header.Set("User-Agent", "own")
	if _, err := c.Do(req); err == nil || seen[len(seen)-1].Header.Get("User-Agent") != "own" {
		t.Errorf("a circle: %v", err)
	}
}

func TestWaits(t *testing.T) {
	for _, test := range []struct {
		name  string
		busy  func() *http.Response
		times int
		want  time.Duration
		fails bool
	}{
		{"maxlag", func() *http.Response {
			return answer(200, `{"errors":[{"code":"maxlag"}]}`, "MediaWiki-API-Error", "maxlag", "Retry-After", "7")
		}, 2, 14 * time.Second, false},
		{"maxlag without header", func() *http.Response {
			return answer(200, `{"errors":[{"code":"maxlag"}]}`, "MediaWiki-API-Error", "maxlag")
		}, 1, 5 * time.Second, false},
		{"readonly", func() *http.Response {
			return answer(200, `{"errors":[{"code":"readonly"}]}`, "MediaWiki-API-Error", "readonly")
		}, 1, 30 * time.Second, false},
		{"edge 503", func() *http.Response { return answer(503, `<h1>`, "Retry-After", "3", "Content-Type", "text/html") }, 1, 3 * time.Second, false},
		{"edge 503 without header", func() *http.Response { return answer(503, `<h1>`) }, 1, 5 * time.Second, false},
		{"429", func() *http.Response { return answer(429, ``, "Retry-After", "1") }, 1, time.Second, false},
		{"date", func() *http.Response {
			return answer(429, ``, "Retry-After", time.Now().Add(4*time.Second).UTC().Format(http.TimeFormat))
		}, 1, 4 * time.Second, false},
		{"past the budget", func() *http.Response {
			return answer(200, `{"errors":[{"code":"readonly"}]}`, "MediaWiki-API-Error", "readonly")
		}, 9, 60 * time.Second, true},
		{"longer than the budget", func() *http.Response { return answer(503, ``, "Retry-After", "3600") }, 9, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				var waits time.Duration
				c := newClient(t, mediawiki.Config{OnWait: func(_ error, d time.Duration) { waits += d }}, func(*http.Request) (*http.Response, error) {
					if n++; n <= test.times {
						return test.busy(), nil
					}
					return answer(200, `{}`), nil
				})
				start := time.Now()
				err := c.Post(t.Context(), mediawiki.Params{"action": "edit"}, nil)
				if (err != nil) != test.fails || time.Since(start) != test.want || waits != test.want {
					t.Errorf("%v after %v, want %v", err, time.Since(start), test.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, mediawiki.Config{}, func(*http.Request) (*http.Response, error) { return answer(503, ``), nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Get(ctx, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the context's end", err)
		}
		c = newClient(t, mediawiki.Config{RetryBudget: -1}, func(*http.Request) (*http.Response, error) { return answer(503, ``), nil })
		start := time.Now()
		if err := c.Get(t.Context(), nil, nil); err == nil || time.Since(start) != 0 {
			t.Errorf("with waiting switched off: %v after %v", err, time.Since(start))
		}
	})
}

func TestTokens(t *testing.T) {
	fetched, posted := 0, 0
	bad := 1
	c := newClient(t, mediawiki.Config{}, func(r *http.Request) (*http.Response, error) {
		if r.Method == "GET" {
			fetched++
			return answer(200, fmt.Sprintf(`{"query":{"tokens":{"csrftoken":"T%d"}}}`, fetched)), nil
		}
		posted++
		if posted <= bad {
			return answer(200, `{"errors":[{"code":"badtoken"}]}`, "MediaWiki-API-Error", "badtoken"), nil
		}
		return answer(200, `{}`), nil
	})
	for range 2 {
		if err := c.PostWithToken(t.Context(), "csrf", mediawiki.Params{"action": "edit"}, nil); err != nil {
			t.Error(err)
		}
	}
	if fetched != 2 || posted != 3 {
		t.Errorf("%d tokens fetched, %d requests; want 2 and 3", fetched, posted)
	}
	bad = 100
	if err := c.PostWithToken(t.Context(), "csrf", nil, nil); !mediawiki.HasCode(err, "badtoken") || posted != 5 {
		t.Errorf("bad for good: %v, %d requests", err, posted)
	}
	if err := c.PostWithToken(t.Context(), "nonsense", nil, nil); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("an unknown type: %v", err)
	}
}

func TestAnswersOfOthers(t *testing.T) {
	for _, test := range []struct {
		resp *http.Response
		want string
	}{
		{answer(502, "<h1>Bad Gateway</h1>", "Content-Type", "text/html"), "502; 20 bytes that are text/html"},
		{answer(200, `{"query":{`), "not complete JSON"},
		{answer(200, ``), "0 bytes"},
		{answer(200, `null`), "not complete JSON"},
		{answer(404, `{}`), "404"},
		{answer(200, `{}`, "MediaWiki-API-Error", "x"), " x"},
		{answer(200, `{"a":"`+strings.Repeat("x", 2000)+`"}`), "more than 1000 bytes"},
	} {
		c := newClient(t, mediawiki.Config{MaxAnswer: 1000}, func(*http.Request) (*http.Response, error) { return test.resp, nil })
		if err := c.Get(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	c := newClient(t, mediawiki.Config{}, func(*http.Request) (*http.Response, error) { return nil, errors.New("unreachable") })
	if err := c.Get(t.Context(), mediawiki.Params{"a": "HIDDEN"}, nil); err == nil || strings.Contains(err.Error(), "HIDDEN") || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("a dead network: %v", err)
	}
	if err := c.REST(t.Context(), "GET", "/a", nil, nil); err == nil {
		t.Error("a dead network: no error")
	}
}

// TestRecordings holds what the client makes of the recordings against golden
// files: a new case is a new file.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("../testdata/wire/*.json")
	if err != nil || len(files) < 87 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if !strings.HasPrefix(name, "api-") && !strings.HasPrefix(name, "rest-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r struct {
				Request  struct{ Path string }
				Response struct {
					Status int
					Header map[string]string
					Body   json.RawMessage
				}
			}
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			var got struct {
				Error    string
				Errors   []mediawiki.ErrorDetail
				Warnings []mediawiki.Warning
				Result   map[string]any
			}
			c := newClient(t, mediawiki.Config{RetryBudget: -1, OnWarning: func(w mediawiki.Warning) { got.Warnings = append(got.Warnings, w) }}, func(*http.Request) (*http.Response, error) {
				resp := answer(r.Response.Status, string(r.Response.Body))
				for name, value := range r.Response.Header {
					resp.Header.Set(name, value)
				}
				return resp, nil
			})
			if r.Request.Path == "/api.php" {
				err = c.Get(t.Context(), nil, &got.Result)
			} else {
				err = c.REST(t.Context(), "GET", "/", nil, &got.Result)
			}
			if err != nil {
				got.Error = err.Error()
			}
			var e *mediawiki.APIError
			if errors.As(err, &e) {
				got.Errors = e.Errors
				if !mediawiki.HasCode(err, e.Errors[0].Code) || mediawiki.HasCode(err, "other") {
					t.Error("HasCode is wrong")
				}
			}
			text, err := json.MarshalIndent(got, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				os.MkdirAll("testdata", 0o755)
				if err := os.WriteFile(golden, append(text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != string(text)+"\n" {
				t.Errorf("%v\ngot %s\nwant %s", err, text, want)
			}
		})
	}
}

func TestAgainstTheFakeWiki(t *testing.T) {
	wiki := mediawikitest.NewUnstartedServer()
	c, err := mediawiki.NewClient(wiki.APIURL(), mediawiki.Config{UserAgent: userAgent, HTTPClient: &http.Client{Transport: wiki.Transport()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, title := range []string{"A", "B", "C"} {
		if err := c.PostWithToken(t.Context(), "csrf", mediawiki.Params{"action": "edit", "title": title, "text": "x"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	var titles []string
	for data, err := range c.Query(t.Context(), mediawiki.Params{"action": "query", "list": "allpages", "aplimit": 1}) {
		var answer struct {
			Query struct{ Allpages []struct{ Title string } }
		}
		if err == nil {
			err = json.Unmarshal(data, &answer)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range answer.Query.Allpages {
			titles = append(titles, p.Title)
		}
		if len(titles) == 3 {
			break
		}
	}
	if want := []string{"A", "B", "C"}; !reflect.DeepEqual(titles, want) {
		t.Errorf("titles %q, want %q", titles, want)
	}
	for _, err := range c.Query(t.Context(), mediawiki.Params{"action": "nonsense"}) {
		if !mediawiki.HasCode(err, "badvalue") {
			t.Error(err)
		}
	}
	user := c.As(c)
	if err := user.Get(t.Context(), mediawiki.Params{"action": "query", "assert": "user"}, nil); !mediawiki.HasCode(err, "assertuserfailed") || !strings.Contains(err.Error(), "Authorization header was lost") {
		t.Errorf("%v", err)
	}
	if user.APIURL() != c.APIURL() {
		t.Error("As has another wiki")
	}
	if err := c.REST(t.Context(), "GET", "/v1/nonsense", nil, nil); !mediawiki.HasCode(err, "rest-no-match") {
		t.Error(err)
	}
}

func FuzzParams(f *testing.F) {
	f.Add("a", "b|c")
	f.Add("\x1f", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x1f") {
			t.Skip("no list can hold it")
		}
		var got string
		c := newClient(t, mediawiki.Config{}, func(r *http.Request) (*http.Response, error) {
			got = r.URL.Query().Get("p")
			return answer(200, "{}"), nil
		})
		if err := c.Get(t.Context(), mediawiki.Params{"p": []string{a, b}}, nil); err != nil {
			t.Skip(err)
		}
		separator := "|"
		if rest, found := strings.CutPrefix(got, "\x1f"); found {
			got, separator = rest, "\x1f"
		}
		if parts := strings.Split(got, separator); len(parts) != 2 || parts[0] != a || parts[1] != b {
			t.Errorf("%q and %q arrive as %q", a, b, parts)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"a","text":"b"}],"warnings":{"main":{"warnings":"c"}},"continue":{"a":1}}`))
	f.Add([]byte(`{"error":{"code":"a","info":"b","lag":1}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := newClient(t, mediawiki.Config{OnWarning: func(mediawiki.Warning) {}}, func(*http.Request) (*http.Response, error) { return answer(200, string(body)), nil })
		var result map[string]any
		err := c.Get(t.Context(), nil, &result)
		if err == nil && (result["error"] != nil || !json.Valid(body)) {
			t.Errorf("an error, or no JSON, is taken for a result: %s", body)
		}
	})
}
