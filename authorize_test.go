package oauth2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAuthorizeURL(t *testing.T) {
	for _, test := range []struct {
		name, api string
		client    Client
		want      string
	}{
		{"bare", "https://wiki.test/w/api.php", Client{ID: "ID"},
			"https://wiki.test/w/rest.php/oauth2/authorize?client_id=ID&code_challenge=*&code_challenge_method=S256&response_type=code&state=*"},
		{"all", "https://wiki.test/w/api.php", Client{ID: "ID&1", RedirectURL: "https://a/?b=c&d", Scopes: []string{"basic", "editpage"}},
			"https://wiki.test/w/rest.php/oauth2/authorize?client_id=ID%261&code_challenge=*&code_challenge_method=S256&redirect_uri=https%3A%2F%2Fa%2F%3Fb%3Dc%26d&response_type=code&scope=basic+editpage&state=*"},
		{"at the root", "https://wiki.test/api.php", Client{ID: "ID"},
			"https://wiki.test/rest.php/oauth2/authorize?client_id=ID&code_challenge=*&code_challenge_method=S256&response_type=code&state=*"},
		{"the last element only", "https://wiki.test:8443/api.php/w/api.php", Client{ID: "ID"},
			"https://wiki.test:8443/api.php/w/rest.php/oauth2/authorize?client_id=ID&code_challenge=*&code_challenge_method=S256&response_type=code&state=*"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wiki := newFakeWiki()
			wiki.api = test.api
			s, err := NewSession(t.Context(), wiki, test.client, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := authorizeURL(t, s)
			if again := authorizeURL(t, s); again != got {
				t.Errorf("another URL the second time: %s", again)
			}
			u, _ := url.Parse(got)
			query := u.Query()
			p := s.core.current.Load().pending
			if query.Get("state") != p.State || query.Get("code_challenge") != challenge(p.Verifier) || strings.Contains(got, p.Verifier) {
				t.Errorf("state or challenge is not the pending login's: %s", got)
			}
			for _, name := range []string{"state", "code_challenge"} {
				query.Set(name, "*")
			}
			u.RawQuery = query.Encode()
			if got := strings.ReplaceAll(u.String(), "%2A", "*"); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestAuthorizeURLFollowsTheClient(t *testing.T) {
	store := new(memory)
	wiki := newFakeWiki()
	before := authorizeURL(t, newTestSession(t, wiki, &Options{Store: store}))
	if again := authorizeURL(t, newTestSession(t, wiki, &Options{Store: store})); again != before {
		t.Error("the pending login is not found in the store")
	}
	client := testClient
	client.RedirectURL += "2"
	s, err := NewSession(t.Context(), wiki, client, &Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if after := authorizeURL(t, s); after == before || !strings.Contains(after, "callback2") {
		t.Errorf("after a change of the redirect URL: %s", after)
	}
	other := newTestSession(t, wiki, &Options{Store: onlyLoads{new(memory)}})
	if _, err := other.AuthorizeURL(t.Context()); err == nil {
		t.Error("a pending login that is not saved is handed out")
	}
}

func TestComplete(t *testing.T) {
	const state, code = "$STATE", "SOMECODE"
	answers := func(status int, body string) func(url.Values, *http.Request) (*http.Response, error) {
		return func(url.Values, *http.Request) (*http.Response, error) { return answer(status, body), nil }
	}
	for _, test := range []struct {
		name, callback string
		token          func(url.Values, *http.Request) (*http.Response, error)
		is             error
		text           string
		sent           int
		pending        bool // the same login is still pending
		complete       bool
	}{
		{"relative", "/callback?code=c&state=" + state, nil, nil, "", 1, false, true},
		{"absolute", "https://tool.test/callback?state=" + state + "&code=c", nil, nil, "", 1, false, true},
		{"query only", "?code=c&state=" + state, nil, nil, "", 1, false, true},
		{"own issuer", "?code=c&iss=https%3A%2F%2Fwiki.test&state=" + state, nil, nil, "", 1, false, true},
		{"other issuer", "?code=c&iss=https%3A%2F%2Fevil.test&state=" + state, nil, ErrState, "issuer", 0, true, false},
		{"empty issuer", "?code=c&iss=&state=" + state, nil, ErrState, "issuer", 0, true, false},
		{"no state", "?code=c", nil, ErrState, "", 0, true, false},
		{"empty state", "?code=c&state=", nil, ErrState, "", 0, true, false},
		{"wrong state", "?code=c&state=x" + state, nil, ErrState, "", 0, true, false},
		{"state in part", "?code=c&state=$STAT", nil, ErrState, "", 0, true, false},
		{"no code", "?state=" + state, nil, nil, "neither a code nor an error", 0, true, false},
		{"empty", "", nil, nil, "neither a code nor an error", 0, true, false},
		{"code twice", "?code=c&code=c&state=" + state, nil, nil, "more than once", 0, true, false},
		{"denied by MediaWiki", "?error=unauthorized_client&error_description=User+has+rejected&message=x", nil, ErrDenied, "User has rejected", 0, true, false},
		{"denied by RFC 6749", "?error=access_denied&state=" + state, nil, ErrDenied, "", 0, true, false},
		{"denied with another state", "?error=access_denied&state=x", nil, ErrState, "", 0, true, false},
		{"error and code", "?error=access_denied&code=c&state=" + state, nil, ErrDenied, "", 0, true, false},
		{"other error", "?error=invalid_scope&state=" + state, nil, nil, "invalid_scope", 0, true, false},
		{"code refused", "?code=c&state=" + state, answers(400, `{"error":"invalid_request","hint":"Authorization code has been revoked"}`), ErrReauthorize, "revoked", 1, false, false},
		{"code refused by 1.46", "?code=c&state=" + state, answers(400, `{"error":"invalid_grant"}`), ErrReauthorize, "", 1, false, false},
		{"client refused", "?code=c&state=" + state, answers(401, `{"error":"invalid_client"}`), nil, "check the client", 1, false, false},
		{"error in a 200", "?code=c&state=" + state, answers(200, `{"error":"invalid_grant"}`), ErrReauthorize, "", 1, false, false},
		{"500", "?code=c&state=" + state, answers(500, `{"error":"server_error"}`), ErrTemporary, "", 1, true, false},
		{"html", "?code=c&state=" + state, answers(200, `<html>`), ErrTemporary, "", 1, true, false},
		{"cut", "?code=c&state=" + state, answers(200, `{"access`), ErrTemporary, "", 1, true, false},
		{"network", "?code=c&state=" + state, func(url.Values, *http.Request) (*http.Response, error) { return nil, errors.New("unreachable") }, ErrTemporary, "unreachable", 1, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wiki := newFakeWiki()
				store := new(memory)
				s := newTestSession(t, wiki, &Options{Store: store})
				before := authorizeURL(t, s)
				u, _ := url.Parse(before)
				wiki.token = test.token
				callback := strings.ReplaceAll(test.callback, state, u.Query().Get("state"))
				err := s.Complete(t.Context(), callback)
				if fails := test.is != nil || test.text != ""; (err != nil) != fails || test.is != nil && !errors.Is(err, test.is) || err != nil && !strings.Contains(err.Error(), test.text) {
					t.Errorf("error %v, want %v with %q", err, test.is, test.text)
				}
				if test.is == nil && len(kinds(err)) > 0 {
					t.Errorf("error %v is %v, want none of them", err, kinds(err))
				}
				if s.IsComplete() != test.complete {
					t.Errorf("complete: %v, want %v", s.IsComplete(), test.complete)
				}
				if got := len(wiki.tokenRequests()); got != test.sent {
					t.Errorf("%d token requests, want %d", got, test.sent)
				}
				// The same callback again, as a reloaded page sends it, and to
				// the next run of the program: the code is not sent again.
				wiki.token = nil
				for _, s := range []*Session{s, newTestSession(t, wiki, &Options{Store: store})} {
					if err := s.Complete(t.Context(), callback); (err == nil) != test.complete {
						t.Errorf("again: %v", err)
					}
				}
				if got := len(wiki.tokenRequests()); got != test.sent {
					t.Errorf("a code was sent %d times", got)
				}
				if after := authorizeURL(t, s); (after == before) != test.pending {
					t.Errorf("the same login pending: %v, want %v", after == before, test.pending)
				}
				login(t, s) // whatever happened, the user can log in
			})
		})
	}
}

func TestCompleteWithIssuer(t *testing.T) {
	client := testClient
	client.Issuer = "https://issuer.test"
	s, err := NewSession(t.Context(), newFakeWiki(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	callback := callbackFor(t, s)
	if err := s.Complete(t.Context(), callback); !errors.Is(err, ErrState) {
		t.Errorf("no issuer: %v", err)
	}
	if err := s.Complete(t.Context(), callback+"&iss=https://issuer.test"); err != nil {
		t.Error(err)
	}
}

func TestCompleteSaves(t *testing.T) {
	wiki := newFakeWiki()
	store := new(memory)
	s := newTestSession(t, wiki, &Options{Store: store})
	callback := callbackFor(t, s)
	full := errors.New("full")
	wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
		if next := newTestSession(t, wiki, &Options{Store: store}); len(next.core.current.Load().pending.Sent) != 1 {
			t.Error("a code is sent before the store knows")
		}
		store.fail(full)
		return nil, nil
	}
	err := s.Complete(t.Context(), callback)
	if _, ok := errorAs[*SaveError](err); !ok || !s.IsComplete() {
		t.Errorf("%v, complete %v; want a SaveError and a complete session", err, s.IsComplete())
	}
	if len(s.core.change) != 0 {
		t.Error("Complete has returned, but the session is not free: the next operation would not save")
	}
	store.fail(nil)
	if _, err := get(t.Context(), s); err != nil {
		t.Error(err)
	}
	if !newTestSession(t, wiki, &Options{Store: store}).IsComplete() {
		t.Error("not saved with the next operation")
	}

	s = newTestSession(t, wiki, &Options{Store: &memory{}})
	callback = callbackFor(t, s)
	failing := s.core.store.(*memory)
	s.core.store = onlyLoads{failing}
	if err := s.Complete(t.Context(), callback); !errors.Is(err, full) && err == nil {
		t.Error("a code is sent though the store cannot save")
	}
	s.core.store = failing
	wiki.token = nil
	if err := s.Complete(t.Context(), callback); err != nil {
		t.Errorf("the same callback, with the store in order: %v", err)
	}
}

type onlyLoads struct{ *memory }

func (onlyLoads) Save(context.Context, []byte) error { return errors.New("read-only") }

func TestCompleteOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wiki := newFakeWiki()
		s := newTestSession(t, wiki, nil)
		callback := callbackFor(t, s)
		wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Second)
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Complete(ctx, callback); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the context's error", err)
		}
		if err := s.Complete(t.Context(), callback); err != nil || !s.IsComplete() {
			t.Errorf("the page reloaded: %v", err)
		}
		if n := len(wiki.tokenRequests()); n != 1 {
			t.Errorf("%d token requests, want 1", n)
		}
	})
}

func FuzzCallback(f *testing.F) {
	f.Add("/callback?code=HIDDENCODE&state=a")
	f.Add("?error=unauthorized_client&error_description=x&code=HIDDENCODE")
	f.Add("http://[::1/?code=HIDDENCODE%zz")
	wiki := newFakeWiki()
	f.Fuzz(func(t *testing.T, callback string) {
		s := newTestSession(t, wiki, nil)
		before := authorizeURL(t, s)
		err := s.Complete(t.Context(), callback)
		if err == nil || s.IsComplete() {
			t.Errorf("a callback without the state is taken")
		} else if strings.Contains(err.Error(), "HIDDENCODE") && !strings.Contains(callback, "error") {
			t.Errorf("the error tells the code: %v", err)
		}
		if authorizeURL(t, s) != before {
			t.Error("the pending login is gone")
		}
	})
}

// freePort returns a port of both loopback addresses that nobody listens on, and
// that no system gives to the next who asks for any.
func freePort(t *testing.T) string {
	for range 100 {
		port := fmt.Sprint(20000 + rand.IntN(10000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no port is free")
	return ""
}

func TestLogin(t *testing.T) {
	wiki := newFakeWiki()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			base := "http://" + net.JoinHostPort(host, freePort(t))
			s, err := NewSession(t.Context(), wiki, Client{ID: "ID", RedirectURL: base + "/call%20back"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			browse := func(method, path, host string, want int) string {
				req, _ := http.NewRequest(method, base+path, nil)
				req.Host = host
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return ""
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != want {
					t.Errorf("%s %s: %d, want %d", method, path, resp.StatusCode, want)
				}
				if resp.StatusCode == 200 && (resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Referrer-Policy") != "no-referrer") {
					t.Errorf("header %v", resp.Header)
				}
				return string(body)
			}
			visited := make(chan struct{})
			err = s.Login(t.Context(), func(authorizeURL string) error {
				u, _ := url.Parse(authorizeURL)
				state := u.Query().Get("state")
				go func() {
					defer close(visited)
					browse("GET", "/favicon.ico", "", 404)
					browse("GET", "/", "", 404)
					browse("GET", "/call%20back/", "", 404)
					browse("GET", "/call%20back?code=c&state="+state, "evil.test", 404)
					browse("POST", "/call%20back?code=c&state="+state, "", 405)
					browse("GET", "/call%20back", "", 400)
					browse("GET", "/call%20back?code=c&state=wrong<b>", "", 400)
					page := browse("GET", "/call%20back?code=SECRETCODE&state="+state, "", 200)
					if !strings.Contains(page, "You are logged in") || strings.Contains(page, "SECRETCODE") || strings.Contains(page, state) {
						t.Errorf("page %s", page)
					}
				}()
				return nil
			}, nil)
			<-visited
			if err != nil || !s.IsComplete() {
				t.Errorf("Login: %v, complete %v", err, s.IsComplete())
			}
			if _, err := client.Get(base); err == nil {
				t.Error("it still listens")
			}
		})
	}
}

func TestLoginEnds(t *testing.T) {
	wiki := newFakeWiki()
	redirect := "http://127.0.0.1:" + freePort(t) + "/callback"
	client := Client{ID: "ID", RedirectURL: redirect}
	visit := func(query string) func(string) error {
		return func(string) error {
			go func() {
				if resp, err := http.Get(redirect + query); err == nil {
					resp.Body.Close()
				}
			}()
			return nil
		}
	}
	failed := errors.New("no screen")
	ended, cancel := context.WithCancel(t.Context())
	for _, test := range []struct {
		name  string
		ctx   context.Context
		show  func(string) error
		paste func(context.Context) (string, error)
		want  error
	}{
		{"denied", t.Context(), visit("?error=unauthorized_client&error_description=no"), nil, ErrDenied},
		{"show fails", t.Context(), func(string) error { return failed }, nil, failed},
		{"context", ended, func(string) error { cancel(); return nil }, nil, context.Canceled},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := NewSession(t.Context(), wiki, client, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Login(test.ctx, test.show, test.paste); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if l, err := net.Listen("tcp", strings.TrimSuffix(strings.TrimPrefix(redirect, "http://"), "/callback")); err != nil {
				t.Errorf("it still listens: %v", err)
			} else {
				l.Close()
			}
		})
	}
}

func TestLoginByPasting(t *testing.T) {
	wiki := newFakeWiki()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, redirect := range []string{"", "https://tool.test/callback", "http://127.0.0.1/callback", "http://127.0.0.1:0/callback", "http://tool.test:8080/callback", "http://" + taken.Addr().String() + "/callback"} {
		t.Run(redirect, func(t *testing.T) {
			s, err := NewSession(t.Context(), wiki, Client{ID: "ID", RedirectURL: redirect}, nil)
			if err != nil {
				t.Fatal(err)
			}
			shown := ""
			show := func(u string) error { shown = u; return nil }
			if err := s.Login(t.Context(), show, nil); err == nil || !strings.Contains(err.Error(), "listen") {
				t.Errorf("without paste: %v", err)
			}
			failed := errors.New("end of file")
			if err := s.Login(t.Context(), show, func(context.Context) (string, error) { return "", failed }); !errors.Is(err, failed) {
				t.Errorf("paste fails: %v", err)
			}
			err = s.Login(t.Context(), show, func(context.Context) (string, error) {
				u, _ := url.Parse(shown)
				return fmt.Sprintf(" %s?code=c&state=%s\n", redirect, u.Query().Get("state")), nil
			})
			if err != nil || !s.IsComplete() {
				t.Errorf("%v, complete %v", err, s.IsComplete())
			}
			if err := s.Login(t.Context(), func(string) error { return failed }, func(context.Context) (string, error) { return "", nil }); !errors.Is(err, failed) {
				t.Errorf("show fails: %v", err)
			}
		})
	}
}
