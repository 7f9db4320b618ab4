package oauth2

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

// A faultRow is what comes of faults from one to another.
type faultRow struct {
	Fault   string   `json:"fault"`
	Error   []string `json:"error"`   // "none", "other", or what errors.Is finds
	Session string   `json:"session"` // "kept" if the program still is logged in, or its login pending, later and after a restart
	Until   string   `json:"until,omitzero"`
}

// A faulty is a fake wiki with a user's session, to try a fault on.
type faulty struct {
	wiki    *mediawikitest.Server
	store   *memory
	session *Session
}

func newFaulty(t *testing.T, settings mediawikitest.Settings) *faulty {
	f := &faulty{wiki: mediawikitest.NewUnstartedServer(), store: new(memory)}
	f.wiki.Set(settings)
	f.wiki.AddClient(mediawikitest.Client{ID: "CLIENTID", Secret: "CLIENTSECRET", RedirectURL: testClient.RedirectURL, Machine: true})
	f.session = f.open(t)
	return f
}

// open opens the session, as a program does when it starts.
func (f *faulty) open(t *testing.T) *Session {
	wiki, err := mediawiki.NewClient(f.wiki.APIURL(), mediawiki.Config{UserAgent: "test/1.0 (test@tool.example)", HTTPClient: &http.Client{Transport: f.wiki.Transport()}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(t.Context(), wiki, testClient, &Options{Store: f.store})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *faulty) consent(t *testing.T, s *Session) string {
	callback, err := f.wiki.Consent(authorizeURL(t, s), "Alice")
	if err != nil {
		t.Fatal(err)
	}
	return callback
}

func (f *faulty) login(t *testing.T) {
	if err := f.session.Complete(t.Context(), f.consent(t, f.session)); err != nil {
		t.Fatal(err)
	}
}

// A faultCase is something that a program does, at an endpoint.
type faultCase struct {
	name, endpoint string
	settings       mediawikitest.Settings
	prepare        func(*testing.T, *faulty)
	do             func(context.Context, *faulty) error
	kept           func(*testing.T, *Session, *faulty) bool // whether a session is as it should be, with all well again
}

func loginFaulty(t *testing.T, f *faulty) { f.login(t) }

func expireFaulty(t *testing.T, f *faulty) {
	f.login(t)
	f.wiki.ExpireTokens()
}

func getFaulty(ctx context.Context, f *faulty) error {
	_, err := get(ctx, f.session)
	return err
}

func isAlice(t *testing.T, s *Session, _ *faulty) bool {
	p, err := s.Profile(t.Context())
	return err == nil && p.Username == "Alice"
}

var faultCases = []faultCase{
	{
		"exchange", "access_token", mediawikitest.Settings{},
		func(*testing.T, *faulty) {},
		func(ctx context.Context, f *faulty) error {
			url, err := f.session.AuthorizeURL(ctx)
			if err != nil {
				return err
			}
			callback, err := f.wiki.Consent(url, "Alice")
			if err != nil {
				return err
			}
			return f.session.Complete(ctx, callback)
		},
		// The code is not sent again: the user goes to the same URL, or to a new one.
		func(t *testing.T, s *Session, f *faulty) bool {
			return s.IsComplete() && isAlice(t, s, f) || s.Complete(t.Context(), f.consent(t, s)) == nil && isAlice(t, s, f)
		},
	},
	{"refresh, strict", "access_token", mediawikitest.Settings{}, expireFaulty, getFaulty, isAlice},
	{"refresh, with a grace period", "access_token", mediawikitest.Settings{Newer: true, RefreshGrace: 10 * time.Minute}, expireFaulty, getFaulty, isAlice},
	{
		"client credentials", "access_token", mediawikitest.Settings{},
		func(*testing.T, *faulty) {},
		func(ctx context.Context, f *faulty) error { return f.session.ClientCredentials(ctx) },
		func(t *testing.T, s *Session, f *faulty) bool {
			return s.IsComplete() || s.ClientCredentials(t.Context()) == nil
		},
	},
	{"api.php", "api.php", mediawikitest.Settings{}, loginFaulty, getFaulty, isAlice},
	{
		"profile", "profile", mediawikitest.Settings{}, loginFaulty,
		func(ctx context.Context, f *faulty) error { _, err := f.session.Profile(ctx); return err },
		isAlice,
	},
}

// faults are all that is tried, in groups of one kind.
func faults(cuts int) (names [][]string, all [][]mediawikitest.Fault) {
	add := func(name string, group ...mediawikitest.Fault) {
		var numbered []string
		for i := range group {
			numbered = append(numbered, fmt.Sprintf(name, i))
		}
		names, all = append(names, numbered), append(all, group)
	}
	for _, kind := range []struct {
		name, contentType, body string
	}{{"html", "text/html", "<h1>no</h1>"}, {"json", "application/json", `{"error":"unknown"}`}, {"empty", "text/plain", ""}} {
		var names400 []string
		var group []mediawikitest.Fault
		for status := 400; status < 600; status++ {
			names400 = append(names400, fmt.Sprint(kind.name, " ", status))
			group = append(group, mediawikitest.Fault{Status: status, Header: http.Header{"Content-Type": {kind.contentType}}, Body: kind.body})
		}
		names, all = append(names, names400), append(all, group)
	}
	for _, garbage := range []string{"", "<html>", "{", "[]", "null", "7", `"x"`, "{}", `{"error":7}`, `{"error":{}}`, `{"access_token":"x"}`, `{"token_type":"Bearer","access_token":""}`, "\x00\xff"} {
		add(fmt.Sprintf("garbage %q%%.0d", garbage), mediawikitest.Fault{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: garbage})
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		add(fmt.Sprintf("redirect %d%%.0d", status), mediawikitest.Fault{Status: status, Header: http.Header{"Location": {"https://evil.test/"}}})
	}
	add("cut before the wiki acts%.0d", mediawikitest.Fault{Cut: true})
	var lost []mediawikitest.Fault
	for n := range cuts {
		lost = append(lost, mediawikitest.Fault{Lose: true, After: n})
	}
	add("answer cut after byte %d", lost...)
	add("late by 20 s%.0d", mediawikitest.Fault{Delay: 20 * time.Second})
	add("late by 40 s%.0d", mediawikitest.Fault{Delay: 40 * time.Second})
	return names, all
}

// TestFaults tries every fault at every endpoint and holds what comes of it
// against a golden file.
func TestFaults(t *testing.T) {
	table := make(map[string][]faultRow)
	var mu sync.Mutex
	t.Run("at", func(t *testing.T) {
		for _, c := range faultCases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				rows := c.tryAll(t)
				mu.Lock()
				defer mu.Unlock()
				table[c.name] = rows
			})
		}
	})
	got, err := json.MarshalIndent(table, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/faults.golden", append(got, '\n'))
}

func (c *faultCase) tryAll(t *testing.T) (rows []faultRow) {
	cuts := 500 // longer than an answer without tokens
	if c.endpoint == "access_token" {
		cuts = 1800
	}
	names, all := faults(cuts)
	for i, group := range all {
		for j, fault := range group {
			synctest.Test(t, func(t *testing.T) {
				row := c.try(t, names[i][j], fault)
				if last := len(rows) - 1; j > 0 && slices.Equal(rows[last].Error, row.Error) && rows[last].Session == row.Session {
					rows[last].Until = row.Fault
					return
				}
				rows = append(rows, row)
			})
		}
	}
	return rows
}

func (c *faultCase) try(t *testing.T, name string, fault mediawikitest.Fault) faultRow {
	f := newFaulty(t, c.settings)
	c.prepare(t, f)
	f.wiki.Spoil(c.endpoint, fault)
	err := c.do(t.Context(), f)
	row := faultRow{Fault: name, Error: kinds(err), Session: "kept"}
	switch {
	case err == nil:
		row.Error = []string{"none"}
	case len(row.Error) == 0:
		row.Error = []string{"other"}
	}
	time.Sleep(6 * time.Minute) // whatever was asked to wait for is over
	if !c.kept(t, f.session, f) || !c.kept(t, f.open(t), f) {
		row.Session = "lost"
	}
	return row
}
