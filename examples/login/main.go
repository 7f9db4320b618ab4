// Login is a command-line program that logs a user in to a wiki and acts as
// them.
//
// Without flags it starts a fake wiki, plays the user, and shows the life of a
// login step by step. With -browser, the user of the fake wiki is you. With
// -wiki and -client-id it logs in to a real wiki and keeps the session in a
// file; the client's secret, if it has one, comes from OAUTH_CLIENT_SECRET.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"

	"mediawiki.example/oauth2"
	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

const userAgent = "oauth2-example-login/1.0 (https://mediawiki.example/oauth2)"

func main() {
	var (
		browser  = flag.Bool("browser", false, "open the fake wiki's consent page yourself")
		wiki     = flag.String("wiki", "", "a real wiki: a domain, or the URL of its api.php")
		clientID = flag.String("client-id", "", "the client's ID, as registered on the real wiki")
		redirect = flag.String("redirect", "http://127.0.0.1:8765/callback", "the redirect URL, as registered")
		file     = flag.String("session", "session.json", "where to keep the session with the real wiki")
		paste    = flag.Bool("paste", false, "paste the callback URL, for a browser on another machine")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *wiki != "" {
		err = real(ctx, *wiki, oauth2.Client{
			ID: *clientID, Secret: oauth2.NewSecret(os.Getenv("OAUTH_CLIENT_SECRET")), RedirectURL: *redirect,
		}, *file, *paste)
	} else {
		err = demo(ctx, *browser)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "login:", err)
		os.Exit(1)
	}
}

// real logs in to a real wiki, unless the file has a login already.
func real(ctx context.Context, wiki string, client oauth2.Client, file string, paste bool) error {
	transport, err := mediawiki.NewClient(wiki, mediawiki.Config{UserAgent: userAgent})
	if err != nil {
		return err
	}
	session, err := oauth2.NewSession(ctx, transport, client, &oauth2.Options{Store: oauth2.FileStore(file)})
	if err != nil {
		return err
	}
	name, err := whoami(ctx, transport, session)
	if errors.Is(err, oauth2.ErrReauthorize) {
		if err := login(ctx, session, paste); err != nil {
			return err
		}
		name, err = whoami(ctx, transport, session)
	}
	if err != nil {
		return err
	}
	fmt.Printf("Logged in as %s. The session is in %s.\n", name, file)
	return nil
}

func login(ctx context.Context, session *oauth2.Session, paste bool) error {
	show := func(url string) error {
		_, err := fmt.Printf("Open this address in a browser:\n\n  %s\n\n", url)
		return err
	}
	read := func(context.Context) (string, error) {
		fmt.Print("Then paste the address that the wiki sends you to: ")
		return bufio.NewReader(os.Stdin).ReadString('\n')
	}
	if !paste {
		return session.Login(ctx, show, read)
	}
	url, err := session.AuthorizeURL(ctx)
	if err != nil {
		return err
	}
	if err := show(url); err != nil {
		return err
	}
	callback, err := read(ctx)
	if err != nil {
		return err
	}
	return session.Complete(ctx, callback)
}

func whoami(ctx context.Context, wiki *mediawiki.Client, session *oauth2.Session) (string, error) {
	var result struct {
		Query struct{ Userinfo struct{ Name string } }
	}
	err := wiki.As(session).Get(ctx, mediawiki.Params{"action": "query", "meta": "userinfo"}, &result)
	return result.Query.Userinfo.Name, err
}

// demo shows the life of a login at a fake wiki.
func demo(ctx context.Context, browser bool) error {
	redirect, err := freeRedirect()
	if err != nil {
		return err
	}
	fake := mediawikitest.NewServer()
	defer fake.Close()
	registered := fake.AddClient(mediawikitest.Client{
		Name: "Demo tool", RedirectURL: redirect, Grants: []string{"basic", "editpage", "createeditmovepage"},
	})
	folder, err := os.MkdirTemp("", "oauth2-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "session.json")
	client := oauth2.Client{ID: registered.ID, Secret: oauth2.NewSecret(registered.Secret), RedirectURL: redirect}
	open := func() (*mediawiki.Client, *oauth2.Session, error) {
		wiki, err := mediawiki.NewClient(fake.APIURL(), mediawiki.Config{UserAgent: userAgent})
		if err != nil {
			return nil, nil, err
		}
		session, err := oauth2.NewSession(ctx, wiki, client, &oauth2.Options{Store: oauth2.FileStore(file)})
		return wiki, session, err
	}

	fmt.Println("1. A fake wiki runs at", fake.URL, "and knows this client.")
	wiki, session, err := open()
	if err != nil {
		return err
	}
	fmt.Println("2. The program asks for a login, and listens at", redirect)
	if browser {
		err = login(ctx, session, false)
	} else {
		visited := make(chan error, 1)
		err = session.Login(ctx, func(url string) error {
			fmt.Println("   Alice opens the wiki's page and says yes; her browser goes to the callback.")
			callback, err := fake.Consent(url, "Alice")
			if err != nil {
				return err
			}
			go func() { visited <- visit(ctx, callback) }()
			return nil
		}, nil)
		if err == nil {
			err = <-visited
		}
	}
	if err != nil {
		return err
	}

	name, err := whoami(ctx, wiki, session)
	if err != nil {
		return err
	}
	fmt.Println("3. Logged in as", name)

	var edit struct{ Edit struct{ Newrevid int } }
	err = wiki.As(session).PostWithToken(ctx, "csrf", mediawiki.Params{"action": "edit", "title": "Sandbox", "text": "Hello", "summary": "demo"}, &edit)
	if err != nil {
		return err
	}
	fmt.Println("4. Edited Sandbox: revision", edit.Edit.Newrevid)

	fake.ExpireTokens()
	fake.Requests()
	if name, err = whoami(ctx, wiki, session); err != nil {
		return err
	}
	refreshes := 0
	for _, r := range fake.Requests() {
		if r.Form.Get("grant_type") == "refresh_token" {
			refreshes++
		}
	}
	fmt.Printf("5. The access token expired. The next request refreshed it (%d refresh) and was made as %s.\n", refreshes, name)

	if wiki, session, err = open(); err != nil {
		return err
	}
	if name, err = whoami(ctx, wiki, session); err != nil {
		return err
	}
	fmt.Println("6. The program ended and started again, with the saved session: still logged in as", name)
	return nil
}

// freeRedirect returns a redirect URL with a port that nobody listens on. With a
// real wiki the port is the registered one.
func freeRedirect() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "http://" + l.Addr().String() + "/callback", l.Close()
}

// visit is what Alice's browser does.
func visit(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
