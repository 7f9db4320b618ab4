package mediawikitest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A recording is an exchange with a real MediaWiki 1.43.
type recording struct {
	Name    string
	Request struct {
		Method, Path string
		Query        map[string]string
		Header       map[string]string
		Form         map[string]string
		Body         string
	}
	Response struct {
		Status int
		Header map[string]string
		Body   any
		Text   string
	}
	User, Callback, Page string
}

const callback = "http://127.0.0.1:8281/callback"

// player has a wiki prepared as the recorded one was.
type player struct {
	t      *testing.T
	server *Server
}

func newPlayer(t *testing.T) *player {
	s := NewUnstartedServer()
	grants := []string{"basic", "editpage", "createeditmovepage"}
	s.AddClient(Client{ID: "CLIENTID", Secret: "CLIENTSECRET", RedirectURL: callback, Grants: grants})
	s.AddClient(Client{ID: "PUBLIC-CLIENTID", Secret: "PUBLIC-CLIENTSECRET", RedirectURL: callback, Grants: grants, Public: true})
	s.AddClient(Client{ID: "MACHINE-CLIENTID", Secret: "MACHINE-CLIENTSECRET", RedirectURL: callback, Machine: true})
	s.AddClient(Client{ID: "OWNERONLY-CLIENTID", Secret: "OWNERONLY-CLIENTSECRET", RedirectURL: callback, Owner: "Admin"})
	return &player{t, s}
}

// send sends a request in memory.
func (p *player) send(method, path string, query url.Values, header map[string]string, body string) *http.Response {
	p.t.Helper()
	u := p.server.URL + "/w" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, u, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := p.server.Transport().RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp
}

// code has Alice consent, to what the recording's exchange was of.
func (p *player) code(name, clientID string) string {
	query := url.Values{"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {callback}}
	if name == "token-exchange-no-redirect-uri" {
		query.Del("redirect_uri")
	}
	if name != "token-exchange-verifier-without-challenge" {
		query.Set("code_challenge", "ZnB_cfPAf2-jho2w4BNwOCVSJJyslY8EWQGuh35FM1Q")
		query.Set("code_challenge_method", "S256")
	}
	back, err := p.server.Consent(p.server.URL+"/w/rest.php/oauth2/authorize?"+query.Encode(), "Alice")
	if err != nil {
		p.t.Fatal(err)
	}
	u, _ := url.Parse(back)
	return u.Query().Get("code")
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

func (p *player) token(form url.Values) (t tokens) {
	resp := p.send("POST", "/rest.php/oauth2/access_token", nil, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, form.Encode())
	if json.NewDecoder(resp.Body).Decode(&t); t.Access == "" {
		p.t.Fatalf("no token: %d", resp.StatusCode)
	}
	return t
}

func (p *player) login(clientID string) tokens {
	return p.token(url.Values{
		"grant_type": {"authorization_code"}, "code": {p.code("", clientID)}, "client_id": {clientID},
		"client_secret": {strings.Replace(clientID, "ID", "SECRET", 1)}, "redirect_uri": {callback},
		"code_verifier": {"verifier-abcdefghijklmnopqrstuvwxyz0123456789"},
	})
}

func (p *player) refresh(t tokens) tokens {
	return p.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}, "client_id": {"CLIENTID"}, "client_secret": {"CLIENTSECRET"}})
}

// prepare brings the wiki into the state of a recording, and puts live values
// where the recording has masks.
func (p *player) prepare(r *recording) {
	form := r.Request.Form
	if form["code"] == "OPAQUE" {
		id := form["client_id"]
		if id == "" {
			id = "CLIENTID"
		}
		form["code"] = p.code(r.Name, id)
		if r.Name == "token-exchange-code-reused" {
			p.token(values(form))
		}
	}
	if form["refresh_token"] == "OPAQUE" {
		t := p.login(form["client_id"])
		form["refresh_token"] = t.Refresh
		switch r.Name {
		case "token-refresh-after-expiry":
			p.server.Set(Settings{Lifetime: 3 * time.Second})
		case "token-refresh-reused":
			p.refresh(t)
		case "token-refresh-revoked-by-user":
			p.server.Revoke("Alice", "CLIENTID")
		}
	}
	if form["token"] == `CSRFTOKEN+\` {
		form["token"] = csrfToken
	}
	if r.Request.Header["Authorization"] == "Bearer ACCESSTOKEN" {
		t := p.login("CLIENTID")
		switch {
		case strings.Contains(r.Name, "expired"):
			p.server.ExpireTokens()
		case strings.Contains(r.Name, "old-token"):
			p.refresh(t)
		case strings.Contains(r.Name, "revoked"):
			p.server.Revoke("Alice", "CLIENTID")
		case strings.Contains(r.Name, "machine"):
			t = p.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {"MACHINE-CLIENTID"}, "client_secret": {"MACHINE-CLIENTSECRET"}})
		case strings.Contains(r.Name, "owner-only"):
			t = p.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {"OWNERONLY-CLIENTID"}, "client_secret": {"OWNERONLY-CLIENTSECRET"}})
		}
		r.Request.Header["Authorization"] = "Bearer " + t.Access
	}
	if strings.Contains(r.Name, "readonly") {
		p.server.Set(Settings{ReadOnly: "Maintenance in progress"})
	}
	if strings.Contains(r.Name, "maxlag") {
		p.server.Set(Settings{Lag: 6.1})
	}
	if r.Name == "rest-page-create" {
		p.server.save("Sandbox", "")
	}
	if strings.Contains(r.Name, "continue") || strings.Contains(r.Name, "u001f") {
		p.server.save("Sandbox", "")
	}
	if r.Name == "token-exchange-basic" {
		delete(r.Request.Header, "Authorization")
		r.Request.Header["Authorization"] = "Basic Q0xJRU5USUQ6Q0xJRU5UU0VDUkVU" // the recorded client has another name here
	}
}

func values(m map[string]string) url.Values {
	v := make(url.Values)
	for name, value := range m {
		v.Set(name, value)
	}
	return v
}

// TestRecordings plays every recording against the fake wiki: the answers must
// agree, but for what is random or of its day.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("../../testdata/wire/*.json")
	if err != nil || len(files) != 87 {
		t.Fatalf("%d recordings, %v; want 87", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r recording
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			p := newPlayer(t)
			if r.User != "" {
				p.playAuthorize(&r)
				return
			}
			p.prepare(&r)
			body := r.Request.Body
			if r.Request.Form != nil {
				body = values(r.Request.Form).Encode()
			}
			resp := p.send(r.Request.Method, r.Request.Path, values(r.Request.Query), r.Request.Header, body)
			p.compare(&r, resp)
		})
	}
}

func (p *player) playAuthorize(r *recording) {
	u := p.server.URL + "/w" + r.Request.Path + "?" + values(r.Request.Query).Encode()
	play := p.server.Consent
	if r.User == "cancels" {
		play = p.server.Cancel
	}
	got, err := play(u, "Alice")
	if r.Callback != "" {
		got = regexp.MustCompile(`code=def50200[a-z0-9]{900,}`).ReplaceAllString(got, "code=OPAQUE")
		if err != nil || got != r.Callback {
			p.t.Errorf("callback %s, %v; want %s", got, err, r.Callback)
		}
		return
	}
	status, rest, _ := strings.Cut(strings.TrimPrefix(r.Page, "PAGE "), " ")
	if err == nil || !strings.Contains(err.Error(), " "+status+":") {
		p.t.Fatalf("callback %s, %v; want a page with status %s", got, err, status)
	}
	_, text, _ := strings.Cut(err.Error(), status+": ")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if text == "" || len(lines) != strings.Count(rest, "Additional debug information: ")+1 {
		p.t.Errorf("page %q", lines)
	}
	for _, line := range lines {
		if !strings.Contains(rest, line+"\n") {
			p.t.Errorf("page %q, which the recorded one has not: %s", line, rest)
		}
	}
}

// volatile is what differs from day to day and wiki to wiki.
var volatile = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d{14}|ACCESSTOKEN|OPAQUE|eyJ.*|def50200.*|(CSRF|patrol|watch)TOKEN\+\\|0123456789abcdef\+\\)$`)

// compare demands that the recorded answer's status, headers and JSON agree.
func (p *player) compare(r *recording, resp *http.Response) {
	t := p.t
	if resp.StatusCode != r.Response.Status {
		t.Errorf("status %d, want %d", resp.StatusCode, r.Response.Status)
	}
	for name, want := range r.Response.Header {
		got := strings.ReplaceAll(resp.Header.Get(name), "https://wiki.test/", "http://127.0.0.1:8280/")
		switch {
		case name == "Set-Cookie":
			cookie, _, _ := strings.Cut(want, "=")
			if cookie == "UseDC" && !strings.HasPrefix(got, "UseDC=") {
				t.Errorf("cookie %s, want %s", got, cookie)
			}
		case name == "Cache-Control" && strings.HasPrefix(r.Request.Path, "/rest.php/v1/"):
		case got != want:
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	if resp.Header.Get("MediaWiki-API-Error") != r.Response.Header["MediaWiki-API-Error"] {
		t.Errorf("MediaWiki-API-Error %q", resp.Header.Get("MediaWiki-API-Error"))
	}
	data, _ := io.ReadAll(resp.Body)
	var got any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	for _, difference := range differences("", got, r.Response.Body) {
		t.Error(difference)
	}
}

// differences compares JSON values.
func differences(path string, got, want any) (list []string) {
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %v, want an object", path, got)}
		}
		for name, w := range want {
			switch name {
			case "rights", "license", "html_url", "latest": // of that wiki
				continue
			}
			if _, ok := g[name]; !ok {
				list = append(list, fmt.Sprintf("%s/%s is missing", path, name))
				continue
			}
			list = append(list, differences(path+"/"+name, g[name], w)...)
		}
		for name := range g {
			if _, ok := want[name]; !ok && name != "rights" {
				list = append(list, fmt.Sprintf("%s/%s is too much", path, name))
			}
		}
		return list
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return []string{fmt.Sprintf("%s is %v, want %v", path, got, want)}
		}
		for i := range want {
			list = append(list, differences(fmt.Sprintf("%s/%d", path, i), g[i], want[i])...)
		}
		return list
	case string:
		g, _ := got.(string)
		if volatile.MatchString(want) && volatile.MatchString(g) || strings.ReplaceAll(g, "https://wiki.test/", "http://127.0.0.1:8280/") == want {
			return nil
		}
	}
	if !reflect.DeepEqual(got, want) {
		list = append(list, fmt.Sprintf("%s is %v, want %v", path, got, want))
	}
	return list
}
