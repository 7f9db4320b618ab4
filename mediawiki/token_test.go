package mediawiki_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mediawiki.example/oauth2/mediawiki"
)

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

func TestOneTokenForAHundred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetched, posted, bad atomic.Int64
		c := newClient(t, mediawiki.Config{}, func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			if r.Method == "GET" {
				return answer(200, fmt.Sprintf(`{"query":{"tokens":{"csrftoken":"T%d+\\"}}}`, fetched.Add(1))), nil
			}
			posted.Add(1)
			body, _ := io.ReadAll(r.Body)
			if form, _ := url.ParseQuery(string(body)); form.Get("token") != fmt.Sprintf(`T%d+\`, bad.Load()+1) {
				return answer(200, `{"errors":[{"code":"badtoken"}]}`, "MediaWiki-API-Error", "badtoken"), nil
			}
			return answer(200, `{}`), nil
		})
		edit := func() {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if err := c.PostWithToken(t.Context(), "csrf", mediawiki.Params{"action": "edit"}, nil); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		edit()
		if fetched.Load() != 1 || posted.Load() != 100 {
			t.Errorf("%d tokens fetched for %d requests, want 1 for 100", fetched.Load(), posted.Load())
		}
		bad.Store(1)
		edit()
		if fetched.Load() != 2 || posted.Load() != 300 {
			t.Errorf("%d tokens fetched for %d requests when the first went bad, want 2 for 300", fetched.Load(), posted.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		go c.PostWithToken(t.Context(), "patrol", nil, nil)
		synctest.Wait()
		if err := c.PostWithToken(ctx, "rollback", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the context's end", err)
		}
		time.Sleep(10 * time.Second)
	})
}

func TestTokensAreDroppedAfterALogin(t *testing.T) {
	var log []string
	c := newClient(t, mediawiki.Config{}, func(r *http.Request) (*http.Response, error) {
		log = append(log, r.Method+" "+r.URL.Query().Get("action"))
		return answer(200, `{"query":{"tokens":{"csrftoken":"T"}}}`), nil
	})
	for _, action := range []string{"edit", "clientlogin", "edit", "edit", "logout", "edit"} {
		if err := c.PostWithToken(t.Context(), "csrf", mediawiki.Params{"action": action}, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := "GET query,POST edit,POST clientlogin,GET query,POST edit,POST edit,POST logout,GET query,POST edit"
	if got := strings.Join(log, ","); got != want {
		t.Errorf("requests\n%s, want\n%s", got, want)
	}
}
