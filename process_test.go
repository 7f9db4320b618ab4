package oauth2

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

// TestMain runs a test, or one of the processes that a test starts.
func TestMain(m *testing.M) {
	if os.Getenv("OAUTH2_TEST_PROCESS") == "" {
		os.Exit(m.Run())
	}
	if err := process(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// process makes a request, or a refresh, for each line that it reads, and
// writes how it went.
func process() error {
	session, err := openSession(context.Background(), os.Getenv("OAUTH2_TEST_WIKI"), os.Getenv("OAUTH2_TEST_CLIENT"), os.Getenv("OAUTH2_TEST_STORE"))
	if err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "request":
			_, err = session.Profile(context.Background())
		case "refresh for ever":
			fmt.Println("begun")
			for err == nil {
				err = session.Refresh(context.Background())
			}
		}
		if err != nil {
			return err
		}
		fmt.Println("ok")
	}
	return nil
}

// openSession opens a session as a program does when it starts.
func openSession(ctx context.Context, wiki, client, file string) (*Session, error) {
	w, err := mediawiki.NewClient(wiki, mediawiki.Config{UserAgent: "test/1.0 (test@tool.example)"})
	if err != nil {
		return nil, err
	}
	return NewSession(ctx, w, Client{ID: client, Secret: NewSecret("SECRET"), RedirectURL: "https://tool.test/callback"}, &Options{Store: FileStore(file)})
}

// A child is a process that is told what to do.
type child struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

func (s *shared) start(t *testing.T) *child {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "OAUTH2_TEST_PROCESS=1", "OAUTH2_TEST_WIKI="+s.wiki.APIURL(), "OAUTH2_TEST_CLIENT=ID", "OAUTH2_TEST_STORE="+s.file)
	cmd.Stdin = read
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &child{cmd, write, bufio.NewScanner(out)}
}

func (c *child) tell(what string) { fmt.Fprintln(c.in, what) }

func (c *child) heard() string {
	c.out.Scan()
	return c.out.Text()
}

func (c *child) end() error {
	c.in.Close()
	return c.cmd.Wait()
}

// shared is a wiki on loopback and a file with a login to it.
type shared struct {
	wiki *mediawikitest.Server
	file string
}

func newShared(t *testing.T, settings mediawikitest.Settings) *shared {
	t.Helper()
	s := &shared{mediawikitest.NewServer(), filepath.Join(t.TempDir(), "session.json")}
	t.Cleanup(s.wiki.Close)
	s.wiki.Set(settings)
	s.wiki.AddClient(mediawikitest.Client{ID: "ID", Secret: "SECRET", RedirectURL: "https://tool.test/callback"})
	s.login(t)
	return s
}

func (s *shared) login(t *testing.T) {
	t.Helper()
	session, err := openSession(t.Context(), s.wiki.APIURL(), "ID", s.file)
	if err != nil {
		t.Fatal(err)
	}
	callback, err := s.wiki.Consent(authorizeURL(t, session), "Alice")
	if err == nil {
		err = session.Complete(t.Context(), callback)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tokenRequests returns the forms of the token requests since the last call.
func (s *shared) tokenRequests() (forms []url.Values) {
	for _, r := range s.wiki.Requests() {
		if strings.HasSuffix(r.Path, "/access_token") {
			forms = append(forms, r.Form)
		}
	}
	return forms
}

// TestProcessesShareALogin has 8 processes on one file meet 200 expiries at
// once, at a wiki that takes a refresh token once.
func TestProcessesShareALogin(t *testing.T) {
	const processes, expiries = 8, 200
	s := newShared(t, mediawikitest.Settings{})
	var children []*child
	for range processes {
		children = append(children, s.start(t))
	}
	s.tokenRequests()
	failures := 0
	for range expiries {
		s.wiki.ExpireTokens()
		for _, c := range children {
			c.tell("request")
		}
		for i, c := range children {
			if heard := c.heard(); heard != "ok" {
				t.Errorf("process %d: %s", i, heard)
				if failures++; failures > 3 {
					t.FailNow()
				}
			}
		}
	}
	for _, c := range children {
		if err := c.end(); err != nil {
			t.Error(err)
		}
	}
	used := make(map[string]bool)
	n := 0
	for _, form := range s.tokenRequests() {
		n++
		used[form.Get("refresh_token")] = true
	}
	t.Logf("%d requests by %d processes, %d expiries: %d failures; %d refreshes, %d refused since another process was faster",
		processes*expiries, processes, expiries, failures, len(used), n-len(used))
	if len(used) != expiries {
		t.Errorf("%d refresh tokens were used for %d expiries", len(used), expiries)
	}
}

// TestKilledProcesses kills a process that refreshes without a pause, 200 times
// at random moments, and looks whether the next one is still logged in. It may
// be logged out only if the wiki takes a refresh token once, and the kill fell
// between its answer and the save.
func TestKilledProcesses(t *testing.T) {
	const kills = 200
	for _, test := range []struct {
		name     string
		settings mediawikitest.Settings
	}{
		{"strict", mediawikitest.Settings{}},
		{"grace", mediawikitest.Settings{Newer: true, RefreshGrace: 10 * time.Minute}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShared(t, test.settings)
			var refreshes, unsaved int
			var lost atomic.Int64
			var wg sync.WaitGroup
			for range kills {
				c := s.start(t)
				c.tell("refresh for ever")
				if heard := c.heard(); heard != "begun" {
					t.Fatal(heard)
				}
				time.Sleep(time.Duration(rand.Int64N(int64(8 * time.Millisecond)))) // a real moment of a real process
				c.cmd.Process.Kill()
				c.end()
				forms := s.tokenRequests()
				refreshes += len(forms)

				session, err := openSession(t.Context(), s.wiki.APIURL(), "ID", s.file)
				if err != nil {
					t.Fatal("the file is damaged: ", err)
				}
				saved := session.core.current.Load().token.refresh
				usedBefore := func(forms []url.Values) bool {
					return slices.ContainsFunc(forms, func(f url.Values) bool { return f.Get("refresh_token") == saved })
				}
				if !usedBefore(forms) {
					err := session.Refresh(t.Context())
					forms := s.tokenRequests()
					switch {
					case err == nil:
						continue
					case len(forms) < 2 || !usedBefore(forms[:len(forms)-1]): // the killed process' request may arrive late
						t.Fatalf("logged out, though the last pair was saved: %v", err)
					}
				}
				unsaved++
				// A session that looks for what another process may yet save takes
				// its time: meanwhile, go on with another login in another file.
				s.file = filepath.Join(t.TempDir(), "session.json")
				s.login(t)
				s.tokenRequests()
				wg.Go(func() {
					switch err := session.Refresh(t.Context()); {
					case err == nil:
					case errors.Is(err, ErrReauthorize) && test.settings.RefreshGrace == 0:
						lost.Add(1)
					default:
						t.Errorf("logged out: %v", err)
					}
				})
			}
			wg.Wait()
			t.Logf("%d kills amid %d refreshes: %d fell between a token request and the save of its answer, and %d cost the login",
				kills, refreshes, unsaved, lost.Load())
			if refreshes < kills/2 {
				t.Errorf("only %d refreshes: nothing was interrupted", refreshes)
			}
		})
	}
}
