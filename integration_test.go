package oauth2_test

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mediawiki.example/oauth2"
	"mediawiki.example/oauth2/mediawiki"
)

// TestIntegration runs the whole flow for each kind of client against a real
// wiki, logging in through the wiki's own forms, if the environment names one.
func TestIntegration(t *testing.T) {
	script := strings.TrimSuffix(os.Getenv("MEDIAWIKI_SCRIPT_URL"), "/")
	redirect := os.Getenv("OAUTH_REDIRECT_URL")
	if script == "" {
		t.Skip("skipped: set MEDIAWIKI_SCRIPT_URL and the other variables of the README to run it against a real wiki")
	}
	b := newBrowser(t, redirect)
	b.login(script, os.Getenv("MEDIAWIKI_USERNAME"), os.Getenv("MEDIAWIKI_PASSWORD"))
	for _, kind := range []struct{ name, id, secret string }{
		{"confidential", os.Getenv("OAUTH_CLIENT_ID"), os.Getenv("OAUTH_CLIENT_SECRET")},
		{"public", os.Getenv("OAUTH_PUBLIC_CLIENT_ID"), os.Getenv("OAUTH_PUBLIC_CLIENT_SECRET")},
	} {
		t.Run(kind.name, func(t *testing.T) {
			if kind.id == "" {
				t.Skipf("skipped: no ID of a %s client in the environment", kind.name)
			}
			testFlow(t, b, script+"/api.php", oauth2.Client{ID: kind.id, Secret: oauth2.NewSecret(kind.secret), RedirectURL: redirect})
		})
	}
}

// testFlow logs in, asks who it is, refreshes, and goes on with saved state.
func testFlow(t *testing.T, b *browser, api string, client oauth2.Client) {
	ctx := t.Context()
	wiki, err := mediawiki.NewClient(api, mediawiki.Config{UserAgent: "oauth2-integration-test/1.0 (https://mediawiki.example/oauth2)"})
	if err != nil {
		t.Fatal(err)
	}
	store := oauth2.FileStore(filepath.Join(t.TempDir(), "session"))
	open := func() *oauth2.Session {
		t.Helper()
		session, err := oauth2.NewSession(ctx, wiki, client, &oauth2.Options{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	session := open()
	authorizeURL, err := session.AuthorizeURL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	callback := b.decide(authorizeURL, "cancel")
	if strings.Contains(callback, "code=") {
		t.Log("not tried: saying no, since the wiki remembers a yes and does not ask")
	} else {
		if err := session.Complete(ctx, callback); !errors.Is(err, oauth2.ErrDenied) {
			t.Errorf("the user says no: %v, want ErrDenied", err)
		}
		callback = b.decide(authorizeURL, "accept")
	}
	session = open() // another process
	if err := session.Complete(ctx, callback); err != nil {
		t.Fatal(err)
	}
	if err := session.Complete(ctx, callback); err != nil {
		t.Errorf("the callback again: %v", err)
	}
	who := func(session *oauth2.Session) string {
		t.Helper()
		profile, err := session.Profile(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var result struct {
			Query struct{ Userinfo struct{ Name string } }
		}
		if err := wiki.As(session).Get(ctx, mediawiki.Params{"action": "query", "meta": "userinfo"}, &result); err != nil {
			t.Fatal(err)
		}
		if got := result.Query.Userinfo.Name; got != profile.Username {
			t.Errorf("api.php says %q, the profile %q", got, profile.Username)
		}
		return profile.Username
	}
	name := who(session)
	old := open()
	if err := session.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if got := who(session); got != name {
		t.Errorf("after a refresh the user is %q, want %q", got, name)
	}
	if got := who(old); got != name { // its token is dead, and the store has a new one
		t.Errorf("the other process is %q, want %q", got, name)
	}
	if got := who(open()); got != name {
		t.Errorf("the next run is %q, want %q", got, name)
	}
	if err := wiki.As(session).PostWithToken(ctx, "csrf", mediawiki.Params{"action": "nonsense"}, nil); !mediawiki.HasCode(err, "badvalue") {
		t.Errorf("a POST with a token: %v, want badvalue", err)
	}
	wrong := client
	wrong.ID = strings.Repeat("0", 32)
	stranger, err := oauth2.NewSession(ctx, wiki, wrong, nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := stranger.AuthorizeURL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	state, _ := url.Parse(u)
	err = stranger.Complete(ctx, "?code=x&state="+state.Query().Get("state"))
	var e *oauth2.TokenError
	if !errors.As(err, &e) || e.Code != "invalid_client" {
		t.Errorf("an unknown client: %v, want invalid_client", err)
	}
}

// A browser is as much of one as a wiki's forms need.
type browser struct {
	t        *testing.T
	client   *http.Client
	callback string
}

func newBrowser(t *testing.T, redirect string) *browser {
	jar, _ := cookiejar.New(nil)
	b := &browser{t: t}
	b.client = &http.Client{Jar: jar, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if redirect != "" && strings.HasPrefix(req.URL.String(), redirect) {
			b.callback = req.URL.String()
			return http.ErrUseLastResponse
		}
		if len(via) > 10 {
			return errors.New("too many redirects")
		}
		return nil
	}}
	return b
}

// load makes a request and returns the page, and where it is.
func (b *browser) load(req *http.Request, err error) (page string, at *url.URL) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "oauth2-integration-test/1.0 (https://mediawiki.example/oauth2)")
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data), resp.Request.URL
}

var (
	formElement  = regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`)
	inputElement = regexp.MustCompile(`(?is)<(?:input|button)\b([^>]*)>`)
	attribute    = regexp.MustCompile(`(?is)([a-z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')`)
)

func attributes(s string) map[string]string {
	m := make(map[string]string)
	for _, a := range attribute.FindAllStringSubmatch(s, -1) {
		m[strings.ToLower(a[1])] = html.UnescapeString(a[2] + a[3])
	}
	return m
}

// submit submits the form that has a field called marker, with values put in.
func (b *browser) submit(page string, at *url.URL, marker string, fill url.Values) (string, *url.URL) {
	b.t.Helper()
	for _, form := range formElement.FindAllStringSubmatch(page, -1) {
		values, found := make(url.Values), false
		for _, input := range inputElement.FindAllStringSubmatch(form[2], -1) {
			a := attributes(input[1])
			found = found || a["name"] == marker
			if a["type"] == "hidden" && a["name"] != "" {
				values.Set(a["name"], a["value"])
			}
		}
		if !found {
			continue
		}
		for name := range fill {
			values.Set(name, fill.Get(name))
		}
		target, err := at.Parse(attributes(form[1])["action"])
		if err != nil {
			b.t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, target.String(), strings.NewReader(values.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return b.load(req, err)
	}
	b.t.Fatalf("%s has no form with %q; it begins %.300q", at.Path, marker, pageTitle(page))
	return "", nil
}

func pageTitle(page string) string {
	_, title, _ := strings.Cut(page, "<title>")
	title, _, _ = strings.Cut(title, "</title>")
	return title
}

func (b *browser) login(script, user, password string) {
	b.t.Helper()
	page, at := b.load(http.NewRequestWithContext(b.t.Context(), http.MethodGet, script+"/index.php?title=Special:UserLogin", nil))
	page, _ = b.submit(page, at, "wpPassword", url.Values{"wpName": {user}, "wpPassword": {password}, "wploginattempt": {"1"}})
	if strings.Contains(page, `name="wpPassword"`) {
		b.t.Fatalf("the wiki does not log %q in", user)
	}
}

// decide opens the wiki's consent page, presses the button called decision, and
// returns the callback URL. A wiki remembers a yes, and then shows no page.
func (b *browser) decide(authorizeURL, decision string) string {
	b.t.Helper()
	b.callback = ""
	page, at := b.load(http.NewRequestWithContext(b.t.Context(), http.MethodGet, authorizeURL, nil))
	if b.callback == "" {
		b.submit(page, at, decision, url.Values{decision: {"1"}})
	}
	if b.callback == "" {
		b.t.Fatal(fmt.Errorf("the wiki does not call back after %q", decision))
	}
	return b.callback
}
