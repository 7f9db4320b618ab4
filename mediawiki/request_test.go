package mediawiki_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mediawiki.example/oauth2/mediawiki"
)

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
		{"500 with Retry-After", func() *http.Response { return answer(500, ``, "Retry-After", "2") }, 1, 2 * time.Second, false},
		{"403 with Retry-After", func() *http.Response { return answer(403, ``, "Retry-After", "2") }, 1, 2 * time.Second, false},
		{"an error with Retry-After", func() *http.Response {
			return answer(200, `{"errors":[{"code":"x"}]}`, "MediaWiki-API-Error", "x", "Retry-After", "2")
		}, 1, 2 * time.Second, false},
		{"Retry-After of nothing", func() *http.Response { return answer(503, ``, "Retry-After", "0") }, 9, 9 * time.Second, false},
		{"Retry-After of the past", func() *http.Response { return answer(503, ``, "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT") }, 2, 2 * time.Second, false},
		{"Retry-After of nonsense", func() *http.Response { return answer(503, ``, "Retry-After", "soon") }, 1, 5 * time.Second, false},
		{"success with Retry-After", func() *http.Response { return answer(200, `{}`, "Retry-After", "2") }, 1, 0, false},
		{"500", func() *http.Response { return answer(500, ``) }, 1, 0, true},
		{"another error", func() *http.Response {
			return answer(200, `{"errors":[{"code":"ratelimited"}]}`, "MediaWiki-API-Error", "ratelimited")
		}, 1, 0, true},
		{"past the budget", func() *http.Response {
			return answer(200, `{"errors":[{"code":"readonly"}]}`, "MediaWiki-API-Error", "readonly")
		}, 9, 60 * time.Second, true},
		{"longer than the budget", func() *http.Response { return answer(503, ``, "Retry-After", "3600") }, 9, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				var waits time.Duration
				c := newClient(t, mediawiki.Config{OnWait: func(reason error, d time.Duration) {
					waits += d
					if reason == nil || !strings.Contains(reason.Error(), "busy") {
						t.Errorf("reason %v", reason)
					}
				}}, func(*http.Request) (*http.Response, error) {
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
		if err := c.REST(ctx, "GET", "/a", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("REST: %v, want the context's end", err)
		}
		c = newClient(t, mediawiki.Config{RetryBudget: -1}, func(*http.Request) (*http.Response, error) { return answer(503, ``), nil })
		start := time.Now()
		if err := c.Get(t.Context(), nil, nil); err == nil || time.Since(start) != 0 {
			t.Errorf("with waiting switched off: %v after %v", err, time.Since(start))
		}
	})
}
