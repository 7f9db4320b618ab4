package mediawiki_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"mediawiki.example/oauth2/mediawiki"
)

func TestREST(t *testing.T) {
	for _, test := range []struct {
		method, path string
		params       mediawiki.Params
		body         any
		url, sent    string // below rest.php
		fails        string
	}{
		{"GET", "/v1/page/{title}/bare", mediawiki.Params{"title": "A/B?"}, nil, "v1/page/A%2FB%3F/bare", "", ""},
		{"GET", "v1/page/{title}", mediawiki.Params{"title": "Ä b"}, nil, "v1/page/%C3%84%20b", "", ""},
		{"GET", "/v1/revision/{id}", mediawiki.Params{"id": 7}, nil, "v1/revision/7", "", ""},
		{"GET", "/v1/{a}/{b}", mediawiki.Params{"a": "{b}", "b": "c"}, nil, "v1/%7Bb%7D/c", "", ""},
		{"GET", "/v1/search/page", mediawiki.Params{"q": "a&b", "limit": 5, "no": nil}, nil, "v1/search/page?limit=5&q=a%26b", "", ""},
		{"GET", "/v1/x?a=1", mediawiki.Params{"redirect": false, "stash": true}, nil, "v1/x?a=1&redirect=false&stash=true", "", ""},
		{"PUT", "/v1/page/{title}", mediawiki.Params{"title": "A"}, map[string]any{"source": "x"}, "v1/page/A", `{"source":"x"}`, ""},
		{"POST", "/v1/page", nil, struct{}{}, "v1/page", `{}`, ""},
		{"DELETE", "/v1/lists/{id}", mediawiki.Params{"id": 7}, nil, "v1/lists/7", "", ""},
		{"GET", "/v1/page/{title}", nil, nil, "", "", `"title" is missing`},
		{"GET", "/v1/page/{title}", mediawiki.Params{"title": ""}, nil, "", "", `"title" is missing`},
		{"GET", "/v1/page/{title}", mediawiki.Params{"title": ".."}, nil, "", "", `no part of a path`},
		{"GET", "/v1/page/{title", mediawiki.Params{"title": "A"}, nil, "", "", `not closed`},
		{"GET", "/v1", mediawiki.Params{"a": struct{}{}}, nil, "", "", `"a"`},
		{"GET", "/%zz", nil, nil, "", "", "REST path"},
		{"POST", "/a", nil, func() {}, "", "", "REST body"},
	} {
		t.Run(test.method+test.path, func(t *testing.T) {
			var got *http.Request
			var sent []byte
			c := newClient(t, mediawiki.Config{}, func(r *http.Request) (*http.Response, error) {
				got = r
				if r.Body != nil {
					sent, _ = io.ReadAll(r.Body)
				}
				return answer(200, `{"a":1}`), nil
			})
			var result struct{ A int }
			err := c.REST(t.Context(), test.method, test.path, test.params, test.body, &result)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) || got != nil {
					t.Errorf("%v, want %q and no request", err, test.fails)
				}
				return
			}
			if err != nil || result.A != 1 || got.Method != test.method || got.URL.String() != "https://wiki.test/w/rest.php/"+test.url || string(sent) != test.sent {
				t.Errorf("%v: %s %s with %q, want %s with %q", err, got.Method, got.URL, sent, test.url, test.sent)
			}
			if want := map[bool]string{true: "application/json"}[test.body != nil]; got.Header.Get("Content-Type") != want || got.Header.Get("Accept") != "application/json" {
				t.Errorf("header %v", got.Header)
			}
		})
	}
}

func TestRESTAnswers(t *testing.T) {
	var resp *http.Response
	c := newClient(t, mediawiki.Config{}, func(*http.Request) (*http.Response, error) { return resp, nil })
	resp = answer(200, "<p>hello", "Content-Type", "text/html")
	var html []byte
	if err := c.REST(t.Context(), "GET", "/v1/page/A/html", nil, nil, &html); err != nil || string(html) != "<p>hello" {
		t.Errorf("%q, %v", html, err)
	}
	resp = answer(204, "")
	if err := c.REST(t.Context(), "DELETE", "/v1/lists/7", nil, nil, &struct{}{}); err != nil {
		t.Error(err)
	}
	resp = answer(201, "")
	if err := c.REST(t.Context(), "POST", "/v1/lists", nil, nil, nil); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		resp *http.Response
		code string
		text string
	}{
		{answer(404, `{"errorKey":"rest-no-match","messageTranslations":{"de":"nicht","en":"not"}}`), "rest-no-match", "not"},
		{answer(404, `{"errorKey":"rest-no-match","messageTranslations":{"fr":"non","de":"nicht"}}`), "rest-no-match", "nicht"},
		{answer(403, `{"error":"rest-read-denied","httpReason":"Forbidden"}`), "rest-read-denied", "Forbidden"},
		{answer(401, `{"error":"access_denied","error_description":"no"}`), "access_denied", "no"},
	} {
		resp = test.resp
		err := c.REST(t.Context(), "GET", "/v1", nil, nil, nil)
		var e *mediawiki.APIError
		if !errors.As(err, &e) || e.Errors[0].Code != test.code || e.Errors[0].Text != test.text || e.Status != resp.StatusCode || !mediawiki.HasCode(err, test.code) {
			t.Errorf("%v, want %s", err, test.code)
		}
	}
	for _, bad := range []*http.Response{answer(502, "<h1>", "Content-Type", "text/html"), answer(200, "<h1>"), answer(404, "{}"), answer(200, `{"a":`)} {
		resp = bad
		err := c.REST(t.Context(), "GET", "/v1", nil, nil, &struct{ A int }{})
		var e *mediawiki.HTTPError
		if !errors.As(err, &e) || e.Status != bad.StatusCode {
			t.Errorf("%v, want an HTTPError with %d", err, bad.StatusCode)
		}
	}
	resp = answer(200, `{"a":"b"}`)
	if err := c.REST(t.Context(), "GET", "/v1", nil, nil, &struct{ A int }{}); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Error(err)
	}
}
