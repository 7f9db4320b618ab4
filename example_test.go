package oauth2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"mediawiki.example/oauth2"
	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

// setUp starts a fake wiki and logs Alice in to it.
func setUp(ctx context.Context) (*mediawikitest.Server, *mediawiki.Client, *oauth2.Session) {
	fake := mediawikitest.NewServer()
	client := fake.AddClient(mediawikitest.Client{RedirectURL: "https://tool.example/callback"})
	wiki, err := mediawiki.NewClient(fake.APIURL(), mediawiki.Config{UserAgent: "example/1.0 (mail@tool.example)"})
	check(err)
	session, err := oauth2.NewSession(ctx, wiki, oauth2.Client{
		ID: client.ID, Secret: oauth2.NewSecret(client.Secret), RedirectURL: client.RedirectURL,
	}, nil)
	check(err)
	url, err := session.AuthorizeURL(ctx)
	check(err)
	callback, err := fake.Consent(url, "Alice")
	check(err)
	check(session.Complete(ctx, callback))
	return fake, wiki, session
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A login in two steps, as a web application has it.
func Example() {
	ctx := context.Background()
	fake := mediawikitest.NewServer() // in place of a real wiki
	defer fake.Close()
	client := fake.AddClient(mediawikitest.Client{RedirectURL: "https://tool.example/callback"})

	wiki, err := mediawiki.NewClient(fake.APIURL(), mediawiki.Config{UserAgent: "example/1.0 (mail@tool.example)"})
	check(err)
	session, err := oauth2.NewSession(ctx, wiki, oauth2.Client{
		ID: client.ID, Secret: oauth2.NewSecret(client.Secret), RedirectURL: client.RedirectURL,
	}, nil)
	check(err)

	url, err := session.AuthorizeURL(ctx) // send the user there
	check(err)
	callback, err := fake.Consent(url, "Alice") // the user says yes
	check(err)
	check(session.Complete(ctx, callback)) // in the handler of the callback

	profile, err := session.Profile(ctx)
	check(err)
	fmt.Println(profile.Username)
	// Output: Alice
}

func ExampleSession_Do() {
	ctx := context.Background()
	fake, _, session := setUp(ctx)
	defer fake.Close()
	fake.ExpireTokens() // four hours later

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, session.APIURL().String()+"?action=query&meta=userinfo&format=json", nil)
	check(err)
	resp, err := session.Do(req)
	check(err)
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode, resp.Header.Get("MediaWiki-API-Error"))
	// Output: 200
}

func ExampleSession_HTTPClient() {
	ctx := context.Background()
	fake, _, session := setUp(ctx)
	defer fake.Close()

	client := session.HTTPClient() // for any library that takes an http.Client
	resp, err := client.Get(fake.URL + "/w/rest.php/oauth2/resource/profile")
	check(err)
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func ExampleSession_Serialize() {
	ctx := context.Background()
	fake, wiki, session := setUp(ctx)
	defer fake.Close()

	data := session.Serialize() // keep it where only the program can read it

	id := fake.Requests()[0].Query.Get("client_id")
	again, err := oauth2.NewSession(ctx, wiki, oauth2.Client{ID: id}, nil)
	check(err)
	check(again.Deserialize(data))
	fmt.Println(again.IsComplete())
	// Output: true
}

func ExampleErrReauthorize() {
	ctx := context.Background()
	fake, wiki, session := setUp(ctx)
	defer fake.Close()
	fake.Revoke("Alice", fake.Requests()[0].Query.Get("client_id")) // on the wiki's Special:OAuthManageMyGrants

	err := wiki.As(session).Get(ctx, mediawiki.Params{"action": "query"}, nil)
	if errors.Is(err, oauth2.ErrReauthorize) {
		fmt.Println("send the user to AuthorizeURL again")
	}
	// Output: send the user to AuthorizeURL again
}
