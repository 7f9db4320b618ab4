package mediawiki_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"mediawiki.example/oauth2/mediawiki"
)

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
