package oauth2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
)

func TestNewSessionErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		api    string
		client Client
		want   string // "" for no error
	}{
		{"fine", "", Client{ID: "a"}, ""},
		{"owner-only", "", Client{AccessToken: NewSecret("a")}, ""},
		{"no ID", "", Client{}, "Client.ID"},
		{"ID with line end", "", Client{ID: "a\n"}, "Client.ID"},
		{"secret with space", "", Client{ID: "a", Secret: NewSecret("HIDDEN ")}, "Client.Secret"},
		{"relative redirect", "", Client{ID: "a", RedirectURL: "/callback"}, "RedirectURL"},
		{"redirect with fragment", "", Client{ID: "a", RedirectURL: "https://a/#b"}, "RedirectURL"},
		{"scopes in one", "", Client{ID: "a", Scopes: []string{"basic editpage"}}, "Scopes"},
		{"empty scope", "", Client{ID: "a", Scopes: []string{""}}, "Scopes"},
		{"plain http", "http://wiki.test/w/api.php", Client{ID: "a"}, "not https"},
		{"http on 127.0.0.1", "http://127.0.0.1:8080/w/api.php", Client{ID: "a"}, ""},
		{"http on ::1", "http://[::1]:8080/w/api.php", Client{ID: "a"}, ""},
		{"http on localhost", "http://localhost/w/api.php", Client{ID: "a"}, ""},
		{"http on a name like it", "http://localhost.evil.test/w/api.php", Client{ID: "a"}, "not https"},
		{"at the root", "https://wiki.test/api.php", Client{ID: "a"}, ""},
		{"no path", "https://wiki.test", Client{ID: "a"}, "not the URL of an api.php"},
		{"a folder", "https://wiki.test/w/", Client{ID: "a"}, "not the URL of an api.php"},
		{"user", "https://a:HIDDEN@wiki.test/w/api.php", Client{ID: "a"}, "no user"},
		{"query", "https://wiki.test/w/api.php?a=b", Client{ID: "a"}, "no user, query"},
		{"fragment", "https://wiki.test/w/api.php#a", Client{ID: "a"}, "no user, query"},
		{"relative", "/w/api.php", Client{ID: "a"}, "not the URL of an api.php"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wiki := newFakeWiki()
			if test.api != "" {
				wiki.api = test.api
			}
			_, err := NewSession(t.Context(), wiki, test.client, nil)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "HIDDEN") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	failing := &memory{err: errors.New("out of order")}
	if _, err := NewSession(t.Context(), newFakeWiki(), testClient, &Options{Store: failing}); !errors.Is(err, failing.err) {
		t.Errorf("with a store that fails: %v", err)
	}
}

func TestOwnerOnly(t *testing.T) {
	wiki := newFakeWiki()
	wiki.alive = "OWNERTOKEN"
	store := new(memory)
	s, err := NewSession(t.Context(), wiki, Client{AccessToken: NewSecret("OWNERTOKEN")}, &Options{Store: store})
	if err != nil || !s.IsComplete() {
		t.Fatal(err)
	}
	if body, err := get(t.Context(), s); err != nil || !strings.Contains(body, "Alice") {
		t.Errorf("%q, %v", body, err)
	}
	wiki.expire()
	if _, err := get(t.Context(), s); !errors.Is(err, ErrReauthorize) || s.IsComplete() {
		t.Errorf("refused: %v, complete %v", err, s.IsComplete())
	}
	if n := len(wiki.tokenRequests()); n != 0 {
		t.Errorf("%d token requests, want none", n)
	}
	if _, err := s.AuthorizeURL(t.Context()); err == nil {
		t.Error("an authorize URL without an ID")
	}
}

func TestClientCredentials(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	if err := s.ClientCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := get(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		wiki.expire()
	}
	log := wiki.requests()
	for _, req := range log {
		if req.Method == "GET" && strings.Contains(req.URL.RawQuery, "assert") {
			t.Errorf("an anonymous request asserts a user: %s", req.URL.RawQuery)
		}
	}
	forms := wiki.tokenRequests()
	if len(forms) != 2 || forms[1].Get("grant_type") != "client_credentials" {
		t.Errorf("token requests %v", forms)
	}
	wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
		return answer(401, `{"error":"invalid_client"}`), nil
	}
	if err := s.ClientCredentials(t.Context()); !isCode(err, "invalid_client") {
		t.Errorf("a client that may not: %v", err)
	}
}

func isCode(err error, code string) bool {
	e, ok := errorAs[*TokenError](err)
	return ok && e.Code == code
}

func TestProfile(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	if _, err := s.Profile(t.Context()); !errors.Is(err, ErrReauthorize) {
		t.Errorf("before the login: %v", err)
	}
	login(t, s)
	for _, test := range []struct {
		status int
		body   string
		want   string
	}{
		{200, `{"sub":"3","username":"Alice","editcount":5,"groups":["*"],"rights":["read"],"grants":["basic"],"registered":"20261123184745","new":1}`, ""},
		{200, `{}`, "not a profile"},
		{200, `<html>`, "not a profile"},
		{500, `x`, "500"},
		{401, `{"error":"access_denied"}`, "access_denied"},
		{200, strings.Repeat(" ", maxAnswer+1), "1 MiB"},
	} {
		wiki.serve = func(*http.Request) (*http.Response, error) { return answer(test.status, test.body), nil }
		p, err := s.Profile(t.Context())
		if test.want == "" {
			if err != nil || p.Username != "Alice" || p.EditCount != 5 {
				t.Errorf("%+v, %v", p, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d %.20s: %v, want %q", test.status, test.body, err, test.want)
		}
	}
}

func TestOn(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	second := newFakeWiki()
	second.api = "https://second.test/w/api.php"
	other, err := s.On(second)
	if err != nil {
		t.Fatal(err)
	}
	login(t, s)
	second.serve = func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Authorization") != "Bearer ACCESSTOKEN-2" {
			return answer(200, `{"error":{"code":"mwoauth-invalid-authorization"}}`), nil
		}
		return answer(200, `{"ok":1}`), nil
	}
	if body, err := get(t.Context(), other); err != nil || body != `{"ok":1}` {
		t.Errorf("%q, %v", body, err)
	}
	if n := len(second.tokenRequests()); n != 0 {
		t.Error("a token request went to the second wiki")
	}
	if _, err := get(t.Context(), s); err != nil {
		t.Error(err)
	}
	second.api = "http://second.test/w/api.php"
	if _, err := s.On(second); err == nil {
		t.Error("plain http is taken")
	}
}

func TestCookiesOfUsersAreApart(t *testing.T) {
	wiki := newFakeWiki()
	alice, bob := newTestSession(t, wiki, nil), newTestSession(t, wiki, nil)
	login(t, alice)
	wiki.serve = func(req *http.Request) (*http.Response, error) {
		resp := answer(200, "{}")
		resp.Header["Set-Cookie"] = []string{"cpPosIndex=1; path=/", "sessionJwt=HIDDEN; path=/"}
		return resp, nil
	}
	get(t.Context(), alice)
	get(t.Context(), alice)
	login(t, bob)
	get(t.Context(), bob)
	log := wiki.requests()
	if got := log[2].Header.Get("Cookie"); got != "cpPosIndex=1" {
		t.Errorf("Alice's cookies are %q, want cpPosIndex alone", got)
	}
	for _, req := range log[3:] {
		if req.Header.Get("Cookie") != "" {
			t.Errorf("%s carries %q", req.URL.Path, req.Header.Get("Cookie"))
		}
	}
}

// TestSecretsNeverPrint prints everything in every way and looks for what must
// not be there.
func TestSecretsNeverPrint(t *testing.T) { synctest.Test(t, testSecretsNeverPrint) }

func testSecretsNeverPrint(t *testing.T) {
	var log bytes.Buffer
	wiki := newFakeWiki()
	store := new(memory)
	s := newTestSession(t, wiki, &Options{Store: store, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	state, _ := url.Parse(authorizeURL(t, s))
	secrets := []string{"CLIENTSECRET", "ACCESSTOKEN-", "REFRESHTOKEN-", "AUTHORIZATIONCODE", state.Query().Get("state"), s.core.current.Load().pending.Verifier}
	var out bytes.Buffer
	show := func(v any) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		data, _ := json.Marshal(v)
		out.Write(data)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("a", "v", v)
		}
	}
	everything := func() {
		show(s)
		show(testClient)
		show(testClient.Secret)
		show(&testClient)
		show(struct{ client Client }{testClient})
		show(struct {
			Session *Session
			client  *Client
		}{s, &testClient})
		show([]any{s, testClient})
	}
	everything()
	callback := callbackFor(t, s)
	show(s.Complete(t.Context(), callback+"%zz"))
	show(s.Complete(t.Context(), callback+"&code=AUTHORIZATIONCODE"))
	show(s.Complete(t.Context(), callback+"x"))
	show(s.Complete(t.Context(), "http://[::1/"+callback))
	show(s.Complete(t.Context(), callback+"&iss=https://evil.test"))
	echo := func(form url.Values, req *http.Request) (*http.Response, error) {
		return answer(400, `{"error":"invalid_scope","error_description":"`+form.Encode()+`","hint":"`+form.Get("code")+form.Get("refresh_token")+`"}`), nil
	}
	garbage := func(form url.Values, req *http.Request) (*http.Response, error) {
		return answer(200, form.Encode()), nil
	}
	failure := func(form url.Values, req *http.Request) (*http.Response, error) {
		return nil, errors.New("dial with " + form.Encode())
	}
	for i, token := range []func(url.Values, *http.Request) (*http.Response, error){garbage, failure, echo} {
		wiki.token = token
		show(s.Complete(t.Context(), callback+"&x="+fmt.Sprint(i)))
		show(s.Complete(t.Context(), callback))
	}
	wiki.token = nil
	login(t, s)
	everything()
	for _, token := range []func(url.Values, *http.Request) (*http.Response, error){garbage, failure, echo} {
		wiki.token = token
		show(s.Refresh(t.Context()))
		wiki.expire()
		_, err := get(t.Context(), s)
		show(err)
	}
	wiki.token = nil
	s.core.held.Store(nil)
	resp, err := s.HTTPClient().Get(wiki.api)
	show(err)
	show(resp)
	show(resp.Request)
	store.fail(errors.New("disk full"))
	show(s.Refresh(t.Context()))
	out.Write(log.Bytes())
	if !strings.Contains(log.String(), "tokens refreshed") || !strings.Contains(log.String(), "logged in") {
		t.Errorf("the log tells nothing: %s", log.String())
	}
	for _, secret := range secrets {
		for name, form := range map[string]string{"": secret, "hex ": fmt.Sprintf("%x", secret), "HEX ": fmt.Sprintf("%X", secret)} {
			if i := strings.Index(out.String(), form); i >= 0 {
				t.Errorf("%s%q is printed: …%s…", name, secret, out.String()[max(0, i-200):i+30])
			}
		}
	}
}
