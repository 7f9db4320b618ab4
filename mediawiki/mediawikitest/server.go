// Package mediawikitest has a fake wiki for tests, as net/http/httptest has a
// fake server: a MediaWiki with the OAuth extension, on loopback or in memory,
// which checks what a real one checks and answers as recordings of a MediaWiki
// 1.43 do.
package mediawikitest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing/iotest"
	"time"
)

// A Client is a client as registered on the wiki.
type Client struct {
	ID, Secret  string // made up by AddClient if empty
	Name        string // what the consent page calls it
	RedirectURL string
	Grants      []string // of the scopes; "basic" if empty
	Public      bool     // non-confidential
	Machine     bool     // may use the client credentials grant
	Owner       string   // the user, if it is owner-only

	// AccessToken is made by AddClient for an owner-only client.
	AccessToken string
}

// Settings are how a wiki behaves. The zero Settings are those of a MediaWiki
// 1.43 as it comes.
type Settings struct {
	Lifetime     time.Duration // of access tokens; 0 means 4 hours
	NeverExpire  bool          // access tokens are for a thousand years, and expires_in overflows
	Newer        bool          // as MediaWiki 1.46: invalid_grant, public clients refresh without a secret, any loopback port
	Edge         bool          // as Wikimedia: an edge refuses expired tokens with a 401
	RefreshGrace time.Duration // for how long a used refresh token still works; 0 means not at all
	ReadOnly     string        // why the wiki cannot be edited; empty if it can
	Lag          float64       // of the slowest replica, in seconds
}

// A Fault spoils an answer.
type Fault struct {
	Status int           // answered in place of the wiki, if not 0
	Header http.Header   // with it
	Body   string        // with it
	Delay  time.Duration // before anything else
	Lose   bool          // the wiki acts, and its answer is lost: the connection is cut
	After  int           // with Lose: so many bytes of the answer's body come through before
	Cut    bool          // the connection is cut before the wiki acts
}

// A Request is an entry of the log.
type Request struct {
	Method, Path string
	Query        url.Values
	Header       http.Header
	Form         url.Values // of the body, but for files
}

// A Server is a fake wiki. Its methods may be called from many goroutines.
type Server struct {
	URL string // without a slash at the end

	http *httptest.Server // nil in memory

	mu       sync.Mutex
	settings Settings
	clients  map[string]*Client
	users    []string
	codes    map[string]*grant
	access   map[string]*grant
	refresh  map[string]*grant
	pages    []*page
	files    map[string]*upload // by name
	edits    int
	faults   map[string][]Fault
	log      []Request
}

// A grant is what a code or a token stands for.
type grant struct {
	client      *Client
	user        string // empty: anonymous
	redirectURI string
	scopes      []string
	challenge   string
	plain       bool
	used        time.Time // zero if not
	expires     time.Time
	revoked     bool
	access      string // of a refresh token: the access token of its pair
}

type page struct {
	title, text string
	id, rev     int
}

// NewServer starts a wiki on loopback, which is to be ended with Close. It has a
// user, Alice.
func NewServer() *Server {
	s := NewUnstartedServer()
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	return s
}

// NewUnstartedServer returns a wiki that is reached through Transport alone, at
// https://wiki.test: without a network, and so within testing/synctest.
func NewUnstartedServer() *Server {
	return &Server{
		URL: "https://wiki.test", users: []string{"Alice"},
		clients: make(map[string]*Client), codes: make(map[string]*grant),
		files: make(map[string]*upload), access: make(map[string]*grant), refresh: make(map[string]*grant), faults: make(map[string][]Fault),
		pages: []*page{{title: "Main Page", id: 1, rev: 1}},
	}
}

// Close ends the server and waits for its requests.
func (s *Server) Close() {
	if s.http != nil {
		s.http.Close()
	}
}

// APIURL returns the URL of api.php.
func (s *Server) APIURL() string { return s.URL + "/w/api.php" }

// Set changes how the wiki behaves from now on.
func (s *Server) Set(settings Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = settings
}

// AddUser registers a user.
func (s *Server) AddUser(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = append(s.users, name)
}

// AddClient registers a client and returns it with what the wiki made up.
func (s *Server) AddClient(c Client) Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ID, c.Secret, c.Name = cmp.Or(c.ID, opaque(32)), cmp.Or(c.Secret, opaque(40)), cmp.Or(c.Name, "Example tool")
	if len(c.Grants) == 0 {
		c.Grants = []string{"basic"}
	}
	if c.Owner != "" {
		c.AccessToken = jwt()
		s.access[c.AccessToken] = &grant{client: &c, user: c.Owner, scopes: c.Grants, expires: time.Now().AddDate(1000, 0, 0)}
	}
	s.clients[c.ID] = &c
	return c
}

// ExpireTokens makes every access token expire, as if their time had come.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.access {
		g.expires = time.Time{}
	}
}

// Revoke takes back what a user has granted to a client.
func (s *Server) Revoke(user, clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, grants := range []map[string]*grant{s.codes, s.access, s.refresh} {
		for _, g := range grants {
			if g.user == user && g.client.ID == clientID {
				g.revoked = true
			}
		}
	}
}

// Spoil spoils the next answers to requests whose path ends with endpoint, such
// as "access_token" or "api.php", a fault an answer.
func (s *Server) Spoil(endpoint string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[endpoint] = append(s.faults[endpoint], faults...)
}

// Requests returns the requests since it was last called.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}

// Consent plays a user who is sent to an authorization URL and says yes: it
// returns the callback URL that their browser is sent to. An error page of the
// wiki is an error.
func (s *Server) Consent(authorizeURL, user string) (callbackURL string, err error) {
	return s.decide(authorizeURL, user, "allow")
}

// Cancel plays a user who says no. The callback URL has no state, as MediaWiki
// has it; without a redirect_uri there is none, but an error page.
func (s *Server) Cancel(authorizeURL, user string) (callbackURL string, err error) {
	return s.decide(authorizeURL, user, "cancel")
}

func (s *Server) decide(authorizeURL, user, decision string) (string, error) {
	u, err := url.Parse(authorizeURL)
	if err != nil {
		return "", errors.New("mediawikitest: the authorization URL cannot be parsed")
	}
	form := url.Values{"user": {user}, "decision": {decision}}
	req := httptest.NewRequest(http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, req)
	if rec.Code != http.StatusFound {
		return "", fmt.Errorf("mediawikitest: the user is left on a page of the wiki, %d: %s", rec.Code, pageText(rec.Body.String()))
	}
	return rec.Header().Get("Location"), nil
}

// Transport returns a transport that reaches the wiki in memory.
func (s *Server) Transport() http.RoundTripper { return memory{s} }

type memory struct{ server *Server }

func (m memory) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	in := req.Clone(req.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.Host = cmp.Or(in.Host, in.URL.Host)
	rec := httptest.NewRecorder()
	defer func() {
		switch p := recover(); {
		case p == http.ErrAbortHandler && rec.Flushed:
			resp = rec.Result()
			resp.Request = req
			resp.Body = io.NopCloser(io.MultiReader(resp.Body, iotest.ErrReader(io.ErrUnexpectedEOF)))
		case p == http.ErrAbortHandler:
			resp, err = nil, io.ErrUnexpectedEOF
		case p != nil:
			panic(p)
		}
	}()
	m.server.ServeHTTP(rec, in)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	resp = rec.Result()
	resp.Request = req
	return resp, nil
}

// ServeHTTP answers as the wiki.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := s.fault(r.URL.Path)
	s.mu.Unlock()
	var file *upload
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		r.ParseForm()
	} else if !fault.Cut && fault.Status == 0 {
		var err error
		if file, err = readMultipart(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	s.mu.Lock()
	s.log = append(s.log, Request{r.Method, r.URL.Path, r.URL.Query(), r.Header.Clone(), r.PostForm})
	s.mu.Unlock()
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case fault.Cut:
		panic(http.ErrAbortHandler)
	case fault.Status != 0:
		maps.Copy(w.Header(), fault.Header)
		w.WriteHeader(fault.Status)
		io.WriteString(w, fault.Body)
	case fault.Lose:
		lost := httptest.NewRecorder()
		s.serve(lost, r, file)
		if fault.After > 0 {
			maps.Copy(w.Header(), lost.Header())
			w.WriteHeader(lost.Code)
			w.Write(lost.Body.Next(fault.After))
			http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	default:
		s.serve(w, r, file)
	}
}

func (s *Server) fault(path string) (f Fault) {
	for endpoint, queue := range s.faults {
		if strings.HasSuffix(path, endpoint) && len(queue) > 0 {
			f, s.faults[endpoint] = queue[0], queue[1:]
			return f
		}
	}
	return f
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, file *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, found := strings.CutPrefix(r.URL.Path, "/w/")
	switch {
	case !found:
		http.NotFound(w, r)
	case s.settings.Edge && s.bearer(r) != "" && s.authenticate(r) == nil && path != "rest.php/oauth2/access_token":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s", error="invalid_token"`, s.URL))
		writeJSON(w, 401, object{"httpCode": 401, "httpReason": "Jwt is expired"})
	case path == "api.php":
		s.serveAPI(w, r, file)
	case path == "rest.php/oauth2/authorize":
		s.serveAuthorize(w, r)
	case path == "rest.php/oauth2/access_token":
		s.serveToken(w, r)
	default:
		s.serveREST(w, r, strings.TrimPrefix(path, "rest.php"))
	}
}

func (s *Server) bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

// authenticate returns what a request's token stands for, or nil if it has a
// dead one or none.
func (s *Server) authenticate(r *http.Request) *grant {
	g := s.access[s.bearer(r)]
	if g == nil || g.revoked || !time.Now().Before(g.expires) {
		return nil
	}
	return g
}

// opaque returns n random characters.
func opaque(n int) string {
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(strings.ToLower(rand.Text()))
	}
	return b.String()[:n]
}

// jwt returns an access token of the size and look of MediaWiki's.
func jwt() string { return "eyJ" + opaque(80) + "." + opaque(340) + "." + opaque(342) }

func loopback(host string) bool { return net.ParseIP(host).IsLoopback() }

// takesRedirect reports whether a redirect_uri is a client's.
func (s *Server) takesRedirect(c *Client, uri string) bool {
	if uri == c.RedirectURL {
		return true
	}
	a, err1 := url.Parse(uri)
	b, err2 := url.Parse(c.RedirectURL)
	if !s.settings.Newer || err1 != nil || err2 != nil || a.Scheme != "http" || !loopback(a.Hostname()) {
		return false
	}
	a.Host, b.Host = a.Hostname(), b.Hostname()
	return a.String() == b.String()
}
