package oauth2

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A recording is an exchange with a wiki, as the files of testdata have it. The
// folder wire has what a MediaWiki 1.43 answered, the folder more what other
// versions, edges and proxies answer.
type recording struct {
	Name    string
	Request struct {
		Method, Path string
		Form         map[string]string
	}
	Response struct {
		Status int
		Header map[string]string
		Body   json.RawMessage
		Text   *string
	}
	Callback string
}

func (r *recording) response() *http.Response {
	header := make(http.Header)
	for name, value := range r.Response.Header {
		header.Set(name, value)
	}
	body := []byte(r.Response.Body)
	if r.Response.Text != nil {
		body = []byte(*r.Response.Text)
	}
	return &http.Response{StatusCode: r.Response.Status, Header: header, Body: io.NopCloser(bytes.NewReader(body))}
}

// outcome is what the package makes of a recording: the golden file's content.
type outcome struct {
	Token    *outcomeToken `json:"token,omitzero"`
	Verdict  string        `json:"verdict,omitzero"`
	Callback string        `json:"callback,omitzero"`
	Error    string        `json:"error,omitzero"`
	Is       []string      `json:"is,omitzero"`
}

type outcomeToken struct {
	Access   string `json:"access"`
	Refresh  string `json:"refresh,omitzero"`
	Lifetime string `json:"lifetime,omitzero"`
}

func kinds(err error) (is []string) {
	for name, target := range map[string]error{"ErrReauthorize": ErrReauthorize} {
		if errors.Is(err, target) {
			is = append(is, name)
		}
	}
	if errors.Is(err, ErrDenied) {
		is = append(is, "ErrDenied")
	}
	if errors.Is(err, ErrState) {
		is = append(is, "ErrState")
	}
	if errors.Is(err, ErrTemporary) {
		is = append(is, "ErrTemporary")
	}
	if errors.Is(err, errAnswerLost) {
		is = append(is, "answer lost")
	}
	return is
}

func (r *recording) outcome(t *testing.T) (o outcome) {
	fail := func(err error) {
		if err != nil {
			o.Error, o.Is = err.Error(), kinds(err)
		}
	}
	switch {
	case r.Callback != "":
		back, err := parseCallback(r.Callback)
		if err == nil && back.hasErr {
			err = back.denial()
		} else if err == nil {
			o.Callback = "code"
			if back.hasState {
				o.Callback = "code and state"
			}
		}
		fail(err)
	case strings.HasPrefix(r.Request.Path, "/rest.php/oauth2/access_token"):
		form := make(url.Values)
		for name, value := range r.Request.Form {
			form.Set(name, value)
		}
		core := &core{wiki: answering{r.response()}}
		core.client = Client{ID: form.Get("client_id"), Secret: NewSecret(form.Get("client_secret"))}
		token, err := core.request(t.Context(), form)
		if err == nil {
			o.Token = &outcomeToken{Access: token.access, Refresh: token.refresh}
			if token.lifetime > 0 {
				o.Token.Lifetime = token.lifetime.String()
			}
		}
		fail(err)
	case r.Response.Status != 0:
		resp := r.response()
		before := string(r.Response.Body)
		if r.Response.Text != nil {
			before = *r.Response.Text
		}
		o.Verdict = [...]string{"accepted", "refused", "doubtful"}[judge(resp, r.Request.Path == "/api.php", new(outgoing))]
		after, err := io.ReadAll(resp.Body)
		if err != nil || string(after) != before {
			t.Errorf("the body that is left is %q (%v), want %q", after, err, before)
		}
	default:
		o.Callback = "none"
	}
	return o
}

// answering is a session whose wiki gives one answer.
type answering struct{ resp *http.Response }

func (answering) APIURL() *url.URL {
	return &url.URL{Scheme: "https", Host: "wiki.test", Path: "/w/api.php"}
}

func (a answering) Do(*http.Request) (*http.Response, error) { return a.resp, nil }

func (a answering) RoundTrip(*http.Request) (*http.Response, error) { return a.resp, nil }

// TestRecordings holds what the package makes of every recording against the
// golden file beside it. A new case is a new file.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(files) < 87 {
		t.Fatalf("%d recordings, %v; want 87 at least", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r recording
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			e := json.NewEncoder(&buf)
			e.SetEscapeHTML(false)
			e.SetIndent("", "\t")
			if err := e.Encode(r.outcome(t)); err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".json")+".golden", buf.Bytes())
		})
	}
}

// golden compares with a golden file, or rewrites it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
