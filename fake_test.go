package oauth2

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A fakeWiki is a wiki of a few lines, in memory: what it answers can be set,
// step by step, where the fake wiki of package mediawikitest keeps to the rules.
type fakeWiki struct {
	mu       sync.Mutex
	api      string
	n        int // tokens issued
	alive    string
	refresh  string
	lifetime any
	log      []*http.Request
	forms    []url.Values
	token    func(url.Values, *http.Request) (*http.Response, error) // nil result: as usual
	serve    func(*http.Request) (*http.Response, error)
}

func newFakeWiki() *fakeWiki { return &fakeWiki{api: "https://wiki.test/w/api.php", lifetime: 14400} }

func (w *fakeWiki) APIURL() *url.URL {
	u, err := url.Parse(w.api)
	if err != nil {
		panic(err)
	}
	return u
}

func (w *fakeWiki) Do(req *http.Request) (*http.Response, error) { return w.RoundTrip(req) }

func (w *fakeWiki) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	var form url.Values
	if req.Body != nil {
		defer req.Body.Close()
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		form, _ = url.ParseQuery(string(body))
	}
	w.mu.Lock()
	w.log = append(w.log, req)
	isToken := strings.HasSuffix(req.URL.Path, "/rest.php/oauth2/access_token")
	if isToken {
		w.forms = append(w.forms, form)
	}
	token, serve := w.token, w.serve
	w.mu.Unlock()
	if isToken {
		if token != nil {
			if resp, err := token(form, req); resp != nil || err != nil {
				return resp, err
			}
		}
		return w.issue(form), nil
	}
	if serve != nil {
		if resp, err := serve(req); resp != nil || err != nil {
			return resp, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if req.Header.Get("Authorization") != "Bearer "+w.alive {
		resp := answer(200, `{"error":{"code":"mwoauth-invalid-authorization"}}`)
		resp.Header.Set("MediaWiki-API-Error", "mwoauth-invalid-authorization")
		return resp, nil
	}
	return answer(200, `{"query":{"userinfo":{"name":"Alice"}}}`), nil
}

// issue answers a token request; a refresh token works once.
func (w *fakeWiki) issue(form url.Values) *http.Response {
	w.mu.Lock()
	defer w.mu.Unlock()
	if form.Get("grant_type") == "refresh_token" && form.Get("refresh_token") != w.refresh {
		return answer(401, `{"error":"invalid_request","error_description":"The refresh token is invalid.","hint":"Token has been revoked"}`)
	}
	w.n++
	w.alive, w.refresh = fmt.Sprintf("ACCESSTOKEN-%d", w.n), fmt.Sprintf("REFRESHTOKEN-%d", w.n)
	fields := map[string]any{"token_type": "Bearer", "access_token": w.alive, "expires_in": w.lifetime}
	if form.Get("grant_type") != "client_credentials" {
		fields["refresh_token"] = w.refresh
	}
	data, _ := json.Marshal(fields)
	return answer(200, string(data))
}

func (w *fakeWiki) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive = "none"
}

func (w *fakeWiki) requests() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.log)
}

func (w *fakeWiki) tokenRequests() []url.Values {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.forms)
}

func answer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

var testClient = Client{ID: "CLIENTID", Secret: NewSecret("CLIENTSECRET"), RedirectURL: "https://tool.test/callback"}

func newTestSession(t testing.TB, wiki *fakeWiki, options *Options) *Session {
	t.Helper()
	s, err := NewSession(context.Background(), wiki, testClient, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authorizeURL(t testing.TB, s *Session) string {
	t.Helper()
	u, err := s.AuthorizeURL(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// callbackFor returns the callback that a consenting user brings.
func callbackFor(t testing.TB, s *Session) string {
	t.Helper()
	u, err := url.Parse(authorizeURL(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return "/callback?" + url.Values{"code": {"AUTHORIZATIONCODE-" + newState()}, "state": {u.Query().Get("state")}}.Encode()
}

func login(t testing.TB, s *Session) {
	t.Helper()
	if err := s.Complete(context.Background(), callbackFor(t, s)); err != nil {
		t.Fatal(err)
	}
}

// get makes an api.php request and returns what came back.
func get(ctx context.Context, s *Session) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.APIURL().String()+"?action=query", nil)
	if err != nil {
		return "", err
	}
	return send(s, req)
}

func send(s *Session, req *http.Request) (string, error) {
	resp, err := s.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// A memory is a store that can fail.
type memory struct {
	mu    sync.Mutex
	data  []byte
	err   error
	saves int
}

func (m *memory) Load(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data, m.err
}

func (m *memory) Save(_ context.Context, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.data, m.saves = data, m.saves+1
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}
