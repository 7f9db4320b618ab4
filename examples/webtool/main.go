// Webtool is a small web application: users log in to a wiki with it, and edit
// as themselves.
//
// Without flags it starts a fake wiki. With -wiki and -client-id it speaks to a
// real one; the client's secret comes from OAUTH_CLIENT_SECRET.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"mediawiki.example/oauth2"
	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

func main() {
	var (
		listen   = flag.String("listen", "127.0.0.1:8766", "where to serve")
		base     = flag.String("base", "", "the tool's public URL; by default http:// and where it serves")
		wiki     = flag.String("wiki", "", "a real wiki: a domain, or the URL of its api.php")
		clientID = flag.String("client-id", "", "the client's ID, as registered on the real wiki")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *base == "" {
		*base = "http://" + *listen
	}
	client := oauth2.Client{ID: *clientID, Secret: oauth2.NewSecret(os.Getenv("OAUTH_CLIENT_SECRET")), RedirectURL: *base + "/callback"}
	if *wiki == "" {
		fake := mediawikitest.NewServer()
		defer fake.Close()
		registered := fake.AddClient(mediawikitest.Client{Name: "Web tool", RedirectURL: client.RedirectURL, Grants: []string{"basic", "editpage"}})
		*wiki, client.ID, client.Secret = fake.APIURL(), registered.ID, oauth2.NewSecret(registered.Secret)
	}
	if err := run(ctx, *listen, *wiki, client); err != nil {
		log.Fatal("webtool: ", err)
	}
}

func run(ctx context.Context, listen, wiki string, client oauth2.Client) error {
	t := &tool{client: client, users: make(map[string]*oauth2.Session)}
	var err error
	t.wiki, err = mediawiki.NewClient(wiki, mediawiki.Config{UserAgent: "oauth2-example-webtool/1.0 (https://mediawiki.example/oauth2)"})
	if err != nil {
		return err
	}
	server := &http.Server{Handler: t.handler(), ReadHeaderTimeout: 10 * time.Second}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	log.Print("open http://", l.Addr())
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(end)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// A tool has a session for each user, under a random name that their browser
// keeps. A larger one gives each session a Store in a database.
type tool struct {
	wiki   *mediawiki.Client
	client oauth2.Client

	mu    sync.Mutex
	users map[string]*oauth2.Session // guarded by mu
}

func (t *tool) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", t.home)
	mux.HandleFunc("POST /login", t.login)
	mux.HandleFunc("GET /callback", t.callback)
	mux.HandleFunc("POST /edit", t.edit)
	mux.HandleFunc("POST /logout", t.logout)
	return http.NewCrossOriginProtection().Handler(mux)
}

const cookieName = "session"

// session returns the session of a browser, or nil.
func (t *tool) session(r *http.Request) *oauth2.Session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.users[cookie.Value]
}

func (t *tool) home(w http.ResponseWriter, r *http.Request) {
	session := t.session(r)
	if session == nil || !session.IsComplete() {
		show(w, http.StatusOK, page{})
		return
	}
	profile, err := session.Profile(r.Context())
	if err != nil {
		t.fail(w, err)
		return
	}
	show(w, http.StatusOK, page{User: profile.Username})
}

func (t *tool) login(w http.ResponseWriter, r *http.Request) {
	session := t.session(r)
	if session == nil {
		var err error
		if session, err = oauth2.NewSession(r.Context(), t.wiki, t.client, nil); err != nil {
			t.fail(w, err)
			return
		}
		name := rand.Text()
		t.mu.Lock()
		t.users[name] = session
		t.mu.Unlock()
		http.SetCookie(w, &http.Cookie{
			Name: cookieName, Value: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
			Secure: strings.HasPrefix(t.client.RedirectURL, "https:"),
		})
	}
	url, err := session.AuthorizeURL(r.Context())
	if err != nil {
		t.fail(w, err)
		return
	}
	http.Redirect(w, r, url, http.StatusSeeOther)
}

func (t *tool) callback(w http.ResponseWriter, r *http.Request) {
	session := t.session(r)
	if session == nil {
		t.fail(w, oauth2.ErrState)
		return
	}
	if err := session.Complete(r.Context(), r.URL.String()); err != nil {
		t.fail(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, "/", http.StatusSeeOther) // the code leaves the address bar
}

func (t *tool) edit(w http.ResponseWriter, r *http.Request) {
	session := t.session(r)
	if session == nil {
		t.fail(w, oauth2.ErrReauthorize)
		return
	}
	var result struct{ Edit struct{ Title string } }
	err := t.wiki.As(session).PostWithToken(r.Context(), "csrf", mediawiki.Params{
		"action": "edit", "title": r.PostFormValue("title"), "text": r.PostFormValue("text"), "summary": "with the example tool",
	}, &result)
	if err != nil {
		t.fail(w, err)
		return
	}
	show(w, http.StatusOK, page{Message: fmt.Sprintf("%s is saved.", result.Edit.Title)})
}

func (t *tool) logout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		t.mu.Lock()
		delete(t.users, cookie.Value)
		t.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// fail tells the user what went wrong, and the log the rest.
func (t *tool) fail(w http.ResponseWriter, err error) {
	log.Print(err)
	switch {
	case errors.Is(err, oauth2.ErrDenied):
		show(w, http.StatusOK, page{Message: "You said no, so nothing has happened."})
	case errors.Is(err, oauth2.ErrReauthorize):
		show(w, http.StatusUnauthorized, page{Message: "Please log in again."})
	case errors.Is(err, oauth2.ErrState):
		show(w, http.StatusBadRequest, page{Message: "This login was not begun here, or is over. Please log in again."})
	case errors.Is(err, oauth2.ErrTemporary):
		show(w, http.StatusServiceUnavailable, page{Message: "The wiki does not answer. Please try again later."})
	default:
		show(w, http.StatusInternalServerError, page{Message: "Something went wrong."})
	}
}
