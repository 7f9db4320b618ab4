package oauth2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefreshAhead(t *testing.T) {
	for _, test := range []struct {
		lifetime any
		after    time.Duration
		want     int // refreshes
	}{
		{14400, 14339 * time.Second, 0},
		{14400, 14341 * time.Second, 1},
		{8, 5 * time.Second, 0}, // a margin of 60 s would never end
		{8, 7 * time.Second, 1},
		{nil, 1000 * time.Hour, 0},
		{3.2e10, 1000 * time.Hour, 0},
		{-1, 30 * time.Second, 0},
		{-1, 50 * time.Second, 1},
	} {
		t.Run(fmt.Sprint(test.lifetime, test.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wiki := newFakeWiki()
				wiki.lifetime = test.lifetime
				s := newTestSession(t, wiki, nil)
				login(t, s)
				time.Sleep(test.after)
				for range 3 {
					if _, err := get(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				if got := len(wiki.tokenRequests()) - 1; got != test.want {
					t.Errorf("%d refreshes, want %d", got, test.want)
				}
			})
		})
	}
}

func TestOneRefreshForAThousand(t *testing.T) {
	for _, how := range []string{"refused", "expired"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wiki := newFakeWiki()
				s := newTestSession(t, wiki, &Options{Store: new(memory)})
				login(t, s)
				wiki.expire()
				if how == "expired" {
					time.Sleep(5 * time.Hour)
				}
				wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
					time.Sleep(time.Second)
					return nil, nil
				}
				var wg sync.WaitGroup
				for range 1000 {
					wg.Go(func() {
						if body, err := get(t.Context(), s); err != nil || !strings.Contains(body, "Alice") {
							t.Errorf("%q, %v", body, err)
						}
					})
				}
				wg.Wait()
				if got := len(wiki.tokenRequests()) - 1; got != 1 {
					t.Errorf("%d refreshes, want 1", got)
				}
			})
		})
	}
}

func TestWaitEndsWithTheCallersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wiki := newFakeWiki()
		s := newTestSession(t, wiki, nil)
		login(t, s)
		wiki.expire()
		wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return nil, nil
		}
		start := time.Now()
		patient := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		go func() {
			time.Sleep(50 * time.Millisecond)
			_, err := get(t.Context(), s)
			patient <- err
		}()
		if _, err := get(ctx, s); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 110*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := <-patient; err != nil {
			t.Errorf("the other caller: %v", err)
		}
		if got := len(wiki.tokenRequests()) - 1; got != 1 {
			t.Errorf("%d refreshes, want 1", got)
		}
	})
}

// TestRefreshFailures holds what becomes of a session, and which errors are
// seen, against what the wiki does to a refresh.
func TestRefreshFailures(t *testing.T) {
	oauth := func(status int, code string) func() (*http.Response, error) {
		return func() (*http.Response, error) { return answer(status, `{"error":"`+code+`"}`), nil }
	}
	broken := func() (*http.Response, error) { return nil, errors.New("connection reset") }
	cutOff := func() (*http.Response, error) {
		resp := answer(200, "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"access_token":"A`), failingReader{io.ErrUnexpectedEOF}))
		return resp, nil
	}
	for _, test := range []struct {
		name     string
		answer   func() (*http.Response, error)
		is       error // nil: none of the sentinels
		requests int
		works    bool // later, with the same session
	}{
		{"500", oauth(500, "x"), ErrTemporary, 1, true},
		{"502", func() (*http.Response, error) { return answer(502, "<h1>"), nil }, ErrTemporary, 1, true},
		{"503", oauth(503, ""), ErrTemporary, 1, true},
		{"429", oauth(429, ""), ErrTemporary, 1, true},
		{"html", func() (*http.Response, error) { return answer(200, "<html>"), nil }, ErrTemporary, 1, true},
		{"too long", func() (*http.Response, error) { return answer(200, strings.Repeat("x", maxAnswer+1)), nil }, ErrTemporary, 1, true},
		{"network", broken, ErrTemporary, 2, true},
		{"cut", cutOff, ErrTemporary, 2, true},
		{"empty", func() (*http.Response, error) { return answer(200, ""), nil }, ErrTemporary, 2, true},
		{"invalid_client", oauth(401, "invalid_client"), nil, 1, true},
		{"invalid_scope", oauth(400, "invalid_scope"), nil, 1, true},
		{"redirect", func() (*http.Response, error) { return answer(301, ""), nil }, nil, 1, true},
		{"mac", func() (*http.Response, error) { return answer(200, `{"token_type":"mac","access_token":"a"}`), nil }, nil, 1, true},
		{"dead", oauth(400, "invalid_grant"), ErrReauthorize, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wiki := newFakeWiki()
				s := newTestSession(t, wiki, &Options{Store: new(memory)})
				login(t, s)
				before := string(s.Serialize())
				wiki.expire()
				wiki.token = func(url.Values, *http.Request) (*http.Response, error) { return test.answer() }
				_, err := get(t.Context(), s)
				if err == nil || test.is != nil && !errors.Is(err, test.is) || test.is == nil && len(kinds(err)) > 0 {
					t.Errorf("error %v, want %v", err, test.is)
				}
				if got := len(wiki.tokenRequests()) - 1; got != test.requests {
					t.Errorf("%d requests, want %d", got, test.requests)
				}
				if string(s.Serialize()) != before {
					t.Error("the session has changed")
				}
				wiki.token = nil
				time.Sleep(2 * time.Second)
				if _, err := get(t.Context(), s); (err == nil) != test.works || !test.works && !errors.Is(err, ErrReauthorize) {
					t.Errorf("later: %v, want it to work: %v", err, test.works)
				}
				if s.IsComplete() != test.works {
					t.Errorf("complete: %v", s.IsComplete())
				}
				if !test.works {
					if got := len(wiki.tokenRequests()) - 1; got != test.requests {
						t.Errorf("a dead refresh token was sent again")
					}
					if err := s.Refresh(t.Context()); err != nil || !s.IsComplete() {
						t.Errorf("Refresh tries all the same: %v", err)
					}
				}
			})
		})
	}
}

func TestOldTokenServesWhileTheWikiCannotRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wiki := newFakeWiki()
		s := newTestSession(t, wiki, nil)
		login(t, s)
		time.Sleep(4*time.Hour - 30*time.Second)
		wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
			resp := answer(503, "")
			resp.Header.Set("Retry-After", "10")
			return resp, nil
		}
		for range 5 {
			if _, err := get(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := len(wiki.tokenRequests()) - 1; got != 1 {
			t.Errorf("%d refreshes within Retry-After, want 1", got)
		}
		time.Sleep(20 * time.Second)
		get(t.Context(), s)
		time.Sleep(6 * time.Second) // expired now, and Retry-After not over
		if _, err := get(t.Context(), s); !errors.Is(err, ErrTemporary) {
			t.Errorf("%v, want ErrTemporary", err)
		}
		wiki.token = nil
		time.Sleep(10 * time.Second)
		if _, err := get(t.Context(), s); err != nil {
			t.Error(err)
		}
	})
}

func TestLostAnswerIsAskedForOnceMore(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	login(t, s)
	n := 0
	wiki.token = func(form url.Values, _ *http.Request) (*http.Response, error) {
		if n++; n == 1 {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, nil
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	forms := wiki.tokenRequests()
	if len(forms) != 3 || forms[1].Get("refresh_token") != forms[2].Get("refresh_token") {
		t.Errorf("token requests %v", forms)
	}
}

func TestRefreshTokenStaysIfTheAnswerHasNone(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	login(t, s)
	wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
		return answer(200, `{"token_type":"bearer","access_token":"X"}`), nil
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.core.current.Load().token; got.refresh != "REFRESHTOKEN-1" || got.access != "X" || !got.expiry.IsZero() {
		t.Errorf("token %+v", got)
	}
}

func TestTokenRequest(t *testing.T) {
	wiki := newFakeWiki()
	for _, secret := range []string{"CLIENTSECRET", ""} {
		s, err := NewSession(t.Context(), wiki, Client{ID: "CLIENTID", Secret: NewSecret(secret)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		login(t, s)
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, req := range wiki.requests() {
		_, deadline := req.Context().Deadline()
		if req.Method != "POST" || req.URL.String() != "https://wiki.test/w/rest.php/oauth2/access_token" || !deadline ||
			req.Header.Get("Authorization") != "" || req.Header.Get("Cookie") != "" ||
			req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || req.Header.Get("Accept") != "application/json" {
			t.Errorf("%s %s %v", req.Method, req.URL, req.Header)
		}
	}
	forms := wiki.tokenRequests()
	for i, want := range []string{
		"client_id=CLIENTID&client_secret=CLIENTSECRET&code=*&code_verifier=*&grant_type=authorization_code",
		"client_id=CLIENTID&client_secret=CLIENTSECRET&grant_type=refresh_token&refresh_token=REFRESHTOKEN-1",
		"client_id=CLIENTID&code=*&code_verifier=*&grant_type=authorization_code",
		"client_id=CLIENTID&grant_type=refresh_token&refresh_token=REFRESHTOKEN-3",
	} {
		for _, name := range []string{"code", "code_verifier"} {
			if forms[i].Has(name) {
				forms[i].Set(name, "*")
			}
		}
		if got := strings.ReplaceAll(forms[i].Encode(), "%2A", "*"); got != want {
			t.Errorf("form %d is %s, want %s", i, got, want)
		}
	}
}

func TestSaveFails(t *testing.T) {
	wiki := newFakeWiki()
	store := new(memory)
	s := newTestSession(t, wiki, &Options{Store: store})
	login(t, s)
	wiki.expire()
	full := errors.New("disk full")
	wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
		store.fail(full)
		return nil, nil
	}
	_, err := get(t.Context(), s)
	if e, ok := errorAs[*SaveError](err); !ok || e.Err != full {
		t.Fatalf("error %v, want a SaveError", err)
	}
	if log := wiki.requests(); log[len(log)-1].Method != "POST" {
		t.Error("tokens were used before they were saved")
	}
	for range 2 {
		if body, err := get(t.Context(), s); err != nil || !strings.Contains(body, "Alice") {
			t.Errorf("the session does not go on: %q, %v", body, err)
		}
	}
	saves := store.saves
	store.fail(nil)
	if _, err := get(t.Context(), s); err != nil || store.saves != saves+1 {
		t.Errorf("not saved again: %v, %d saves", err, store.saves-saves)
	}
	again := newTestSession(t, wiki, &Options{Store: store})
	if _, err := get(t.Context(), again); err != nil || !again.IsComplete() {
		t.Errorf("the next run: %v", err)
	}
	if got := len(wiki.tokenRequests()); got != 2 {
		t.Errorf("%d token requests, want 2", got)
	}
}

func TestTwoSessionsShareAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wiki := newFakeWiki()
		store := new(memory)
		a := newTestSession(t, wiki, &Options{Store: store})
		b := newTestSession(t, wiki, &Options{Store: store})
		if authorizeURL(t, a) != authorizeURL(t, b) {
			t.Error("two pending logins")
		}
		callback := callbackFor(t, a)
		if err := b.Complete(t.Context(), callback); err != nil {
			t.Fatal(err)
		}
		if err := a.Complete(t.Context(), callback); err != nil {
			t.Errorf("the same callback at the other process: %v", err)
		}
		if !a.IsComplete() {
			t.Error("the other process did not notice")
		}
		wiki.expire()
		if _, err := get(t.Context(), a); err != nil {
			t.Error(err)
		}
		if _, err := get(t.Context(), b); err != nil { // b's pair is dead
			t.Error(err)
		}
		if got := len(wiki.tokenRequests()) - 1; got != 1 {
			t.Errorf("%d refreshes, want 1: the second session adopts", got)
		}

		// Both at once: the slower one is refused, and finds the pair of the
		// faster one, which takes its time to save it.
		wiki.expire()
		first := true
		wiki.token = func(form url.Values, _ *http.Request) (*http.Response, error) {
			wiki.mu.Lock()
			mine := first
			first = false
			wiki.mu.Unlock()
			if mine {
				resp := wiki.issue(form)
				time.Sleep(3 * time.Second)
				return resp, nil
			}
			time.Sleep(time.Second)
			return nil, nil
		}
		var wg sync.WaitGroup
		for _, s := range []*Session{a, b} {
			wg.Go(func() {
				if _, err := get(t.Context(), s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := len(wiki.tokenRequests()) - 1; got != 3 {
			t.Errorf("%d refreshes, want 3", got)
		}
	})
}

func TestStoreThatCannotBeReadEndsNoLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wiki := newFakeWiki()
		store := new(memory)
		s := newTestSession(t, wiki, &Options{Store: store})
		login(t, s)
		wiki.expire()
		store.fail(errors.New("away"))
		wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
			return answer(400, `{"error":"invalid_grant"}`), nil
		}
		if _, err := get(t.Context(), s); errors.Is(err, ErrReauthorize) || !errors.Is(err, ErrTemporary) {
			t.Errorf("%v, want ErrTemporary", err)
		}
		store.fail(nil)
		store.data = nil // emptied: nothing to adopt, nothing to lose
		wiki.token = nil
		time.Sleep(2 * time.Second)
		if _, err := get(t.Context(), s); err != nil {
			t.Error(err)
		}
	})
}

func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, []byte(`{"token_type":"Bearer","expires_in":14400,"access_token":"ACCESS","refresh_token":"REFRESH"}`))
	f.Add(401, []byte(`{"error":"invalid_request","error_description":"HIDDENREFRESH","hint":"Token has been revoked"}`))
	f.Add(200, []byte(`{"token_type":"bearer","expires_in":"1e400","access_token":"A"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := &core{wiki: answering{answer(status, string(body))}, client: Client{ID: "a"}}
		token, err := c.request(t.Context(), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"HIDDENREFRESH"}})
		if err != nil {
			if strings.Contains(err.Error(), "HIDDENREFRESH") {
				t.Errorf("the error tells the refresh token: %v", err)
			}
			return
		}
		if token.access == "" || !visible(token.access) || token.lifetime < 0 || token.lifetime > maxLifetime {
			t.Errorf("token %+v", token)
		}
		if _, err := json.Marshal(token.expiry.UTC()); err != nil {
			t.Error(err)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("5")
	f.Add("Mon, 23 Nov 2026 18:51:20 GMT")
	f.Fuzz(func(t *testing.T, value string) {
		if d := retryAfter(http.Header{"Retry-After": {value}}); d < 0 {
			t.Errorf("retryAfter(%q) = %v", value, d)
		}
	})
}
