package mediawiki_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"mediawiki.example/oauth2"
	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// setUp starts a fake wiki, and returns a client of it that speaks as Alice.
func setUp() (*mediawikitest.Server, *mediawiki.Client) {
	fake := mediawikitest.NewServer()
	wiki, err := mediawiki.NewClient(fake.APIURL(), mediawiki.Config{UserAgent: "example/1.0 (mail@tool.example)"})
	check(err)
	owner := fake.AddClient(mediawikitest.Client{Owner: "Alice"})
	session, err := oauth2.NewSession(context.Background(), wiki, oauth2.Client{AccessToken: oauth2.NewSecret(owner.AccessToken)}, nil)
	check(err)
	return fake, wiki.As(session)
}

func ExampleClient_Get() {
	fake, wiki := setUp()
	defer fake.Close()

	var result struct {
		Query struct {
			Userinfo struct{ Name string }
		}
	}
	err := wiki.Get(context.Background(), mediawiki.Params{"action": "query", "meta": "userinfo"}, &result)
	check(err)
	fmt.Println(result.Query.Userinfo.Name)
	// Output: Alice
}

// A query with more results than fit into one answer.
func ExampleClient_Query() {
	ctx := context.Background()
	fake, wiki := setUp()
	defer fake.Close()
	for _, title := range []string{"Earth", "Mars", "Venus"} {
		check(wiki.PostWithToken(ctx, "csrf", mediawiki.Params{"action": "edit", "title": title, "text": "A planet."}, nil))
	}

	for data, err := range wiki.Query(ctx, mediawiki.Params{"action": "query", "list": "allpages", "aplimit": 2}) {
		check(err)
		var answer struct {
			Query struct {
				Allpages []struct{ Title string }
			}
		}
		check(json.Unmarshal(data, &answer))
		for _, page := range answer.Query.Allpages {
			fmt.Println(page.Title)
		}
	}
	// Output:
	// Earth
	// Main Page
	// Mars
	// Venus
}

// All properties of a page, also where they come in several answers.
func ExampleBatches() {
	fake, wiki := setUp()
	defer fake.Close()

	answers := wiki.Query(context.Background(), mediawiki.Params{"action": "query", "titles": []string{"Main Page", "Nowhere"}})
	for data, err := range mediawiki.Batches(answers) {
		check(err)
		var batch struct {
			Query struct {
				Pages []struct {
					Title   string
					Missing bool
				}
			}
		}
		check(json.Unmarshal(data, &batch))
		fmt.Println(batch.Query.Pages)
	}
	// Output: [{Main Page false} {Nowhere true}]
}

// An edit. The token is fetched, kept, and replaced when it goes bad.
func ExampleClient_PostWithToken() {
	fake, wiki := setUp()
	defer fake.Close()

	var result struct {
		Edit struct{ Result, Title string }
	}
	err := wiki.PostWithToken(context.Background(), "csrf", mediawiki.Params{
		"action": "edit", "title": "Sandbox", "text": "Hello", "summary": "an example", "minor": true,
	}, &result)
	if mediawiki.HasCode(err, "editconflict") {
		fmt.Println("read the page again")
		return
	}
	check(err)
	fmt.Println(result.Edit.Result, result.Edit.Title)
	// Output: Success Sandbox
}

// A query that writes, and so is made with POST: page by page, since more would
// take the wiki too long.
func ExampleClient_PostQuery() {
	ctx := context.Background()
	fake, wiki := setUp()
	defer fake.Close()
	check(wiki.PostWithToken(ctx, "csrf", mediawiki.Params{"action": "edit", "title": "Sandbox", "text": "Hello"}, nil))

	for data, err := range wiki.PostQuery(ctx, "", mediawiki.Params{"action": "purge", "generator": "allpages", "gaplimit": 1}) {
		check(err)
		var answer struct {
			Purge []struct{ Title string }
		}
		check(json.Unmarshal(data, &answer))
		fmt.Println(answer.Purge)
	}
	// Output:
	// [{Main Page}]
	// [{Sandbox}]
}

// An upload. The file is sent as it is read.
func ExampleFile() {
	fake, wiki := setUp()
	defer fake.Close()

	content := strings.NewReader("<svg xmlns='http://www.w3.org/2000/svg'/>") // or an *os.File
	var result struct{ Upload struct{ Result string } }
	err := wiki.PostWithToken(context.Background(), "csrf", mediawiki.Params{
		"action": "upload", "filename": "Nothing.svg", "comment": "an example",
		"file": mediawiki.File{Name: "Nothing.svg", Content: content},
	}, &result)
	check(err)
	fmt.Println(result.Upload.Result)
	// Output: Success
}

func ExampleClient_REST() {
	ctx := context.Background()
	fake, wiki := setUp()
	defer fake.Close()

	source := map[string]any{"title": "AC/DC", "source": "A band.", "comment": "an example"}
	check(wiki.REST(ctx, http.MethodPost, "/v1/page", nil, source, nil))

	var page struct{ Key string }
	check(wiki.REST(ctx, http.MethodGet, "/v1/page/{title}/bare", mediawiki.Params{"title": "AC/DC"}, nil, &page))
	fmt.Println(page.Key)

	err := wiki.REST(ctx, http.MethodGet, "/v1/nowhere", nil, nil, nil)
	fmt.Println(mediawiki.HasCode(err, "rest-no-match"))
	// Output:
	// AC/DC
	// true
}

// A handler that leaves out the warning that a result is too long for one
// answer, which Query takes care of.
func ExampleConfig() {
	wiki, err := mediawiki.NewClient("en.wikipedia.org", mediawiki.Config{
		UserAgent: "ExampleBot/1.0 (https://bot.example; mail@bot.example)",
		Params:    mediawiki.Params{"maxlag": 5}, // for bots
		OnWarning: func(w mediawiki.Warning) {
			if w.Code != "truncatedresult" {
				slog.Warn(w.Text, "code", w.Code, "module", w.Module)
			}
		},
	})
	check(err)
	fmt.Println(wiki.APIURL())
	// Output: https://en.wikipedia.org/w/api.php
}
