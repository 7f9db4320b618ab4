package oauth2

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestState(t *testing.T) {
	form := regexp.MustCompile(`^[A-Z2-7]{26}$`) // 130 bits
	seen := make(map[string]bool)
	for range 1000 {
		s := newState()
		if !form.MatchString(s) || seen[s] {
			t.Fatalf("state %q is not fit, or not fresh", s)
		}
		seen[s] = true
	}
}

func TestSerialize(t *testing.T) {
	s := newTestSession(t, newFakeWiki(), nil)
	url := authorizeURL(t, s)
	other := newTestSession(t, newFakeWiki(), nil)
	if err := other.Deserialize(s.Serialize()); err != nil {
		t.Fatal(err)
	}
	if got := authorizeURL(t, other); got != url {
		t.Errorf("after Deserialize the authorize URL is %q, want %q", got, url)
	}
	login(t, s)
	if err := other.Deserialize(s.Serialize()); err != nil || !other.IsComplete() {
		t.Errorf("Deserialize of a complete session: %v, complete %v", err, other.IsComplete())
	}
	if got, want := other.Serialize(), s.Serialize(); !bytes.Equal(got, want) {
		t.Errorf("Serialize after Deserialize is\n%s, want\n%s", got, want)
	}
}

func TestDeserializeErrors(t *testing.T) {
	const head = `{"version":1,"wiki":"https://wiki.test/w/","client":"CLIENTID"`
	for _, test := range []struct{ name, data, want string }{
		{"empty", ``, "not JSON"},
		{"no JSON", `SECRETTEXT`, "not JSON"},
		{"null", `null`, "version 0"},
		{"old version", `{"version":0}`, "version 0, want 1"},
		{"new version", `{"version":2}`, "version 2, want 1"},
		{"unknown member", head + `,"SECRETTEXT":1}`, "unknown"},
		{"type", head + `,"token":"SECRETTEXT"}`, "unfit"},
		{"other client", `{"version":1,"wiki":"https://wiki.test/w/","client":"X"}`, `client "X"`},
		{"other wiki", `{"version":1,"wiki":"https://evil.test/w/","client":"CLIENTID"}`, "evil.test"},
		{"pending without verifier", head + `,"pending":{"state":"a"}}`, "verifier"},
		{"token without token", head + `,"token":{"access_token":"","obtained":"2026-01-01T00:00:00Z"}}`, "unfit"},
		{"token with line end", head + `,"token":{"access_token":"a\nb","obtained":"2026-01-01T00:00:00Z"}}`, "unfit"},
		{"year", head + `,"token":{"access_token":"a","obtained":"9999-12-31T23:00:00-12:00"}}`, "unfit"},
		{"lifetime", head + `,"token":{"access_token":"a","lifetime":9e17,"obtained":"2026-01-01T00:00:00Z"}}`, "unfit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newTestSession(t, newFakeWiki(), nil)
			login(t, s)
			before := s.Serialize()
			err := s.Deserialize([]byte(test.data))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "SECRETTEXT") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if !bytes.Equal(s.Serialize(), before) {
				t.Error("the session has changed")
			}
		})
	}
}

func FuzzDeserialize(f *testing.F) {
	f.Add([]byte(`{"version":1,"wiki":"https://wiki.test/w/","client":"CLIENTID","pending":{"state":"a","verifier":"b"}}`))
	f.Add([]byte(`{"version":1,"wiki":"https://wiki.test/w/","client":"CLIENTID","token":{"access_token":"a","refresh_token":"b","expiry":"2026-01-01T00:00:00Z","lifetime":14400,"obtained":"2026-01-01T00:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newTestSession(t, newFakeWiki(), nil)
		if s.Deserialize(data) != nil {
			return
		}
		once := s.Serialize()
		if err := s.Deserialize(once); err != nil {
			t.Fatalf("what Serialize returned is refused: %v", err)
		}
		if again := s.Serialize(); !bytes.Equal(once, again) {
			t.Errorf("round trip\n%s\n%s", once, again)
		}
	})
}

func TestExportImport(t *testing.T) {
	s := newTestSession(t, newFakeWiki(), nil)
	if _, err := s.ExportToken(); !errors.Is(err, ErrReauthorize) {
		t.Errorf("export before a login: %v, want ErrReauthorize", err)
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"access_token":"a b"}`, `{"access_token":"a","token_type":"mac"}`} {
		if err := s.ImportToken([]byte(bad)); err == nil {
			t.Errorf("import of %q is taken", bad)
		}
	}
	login(t, s)
	data, err := s.ExportToken()
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^{"access_token":"[^"]+","token_type":"Bearer","refresh_token":"[^"]+","expiry":"[^"]+Z"}$`)
	if !form.Match(data) {
		t.Errorf("export %s", data)
	}
	other := newTestSession(t, newFakeWiki(), nil)
	if err := other.ImportToken(data); err != nil || !other.IsComplete() {
		t.Fatalf("import: %v, complete %v", err, other.IsComplete())
	}
	again, _ := other.ExportToken()
	if string(data[:60]) != string(again[:60]) {
		t.Errorf("exported again %s", again)
	}
}

func TestFileStore(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	path := filepath.Join(dir, "session.json")
	store := FileStore(path)
	if data, err := store.Load(ctx); data != nil || err != nil {
		t.Errorf("Load of no file = %q, %v", data, err)
	}
	leftover := filepath.Join(dir, ".session.json.123.tmp")
	os.WriteFile(leftover, []byte("SECRET"), 0o600)
	os.Chtimes(leftover, time.Now(), time.Now().Add(-time.Hour))
	for _, want := range []string{"one", "two"} {
		if err := store.Save(ctx, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if data, err := store.Load(ctx); string(data) != want || err != nil {
			t.Errorf("Load = %q, %v; want %q", data, err, want)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files are left: %v", len(files), files)
	}
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	link := filepath.Join(dir, "link")
	os.Symlink(path, link)
	if err := FileStore(link).Save(ctx, []byte("three")); err != nil {
		t.Fatal(err)
	}
	if data, _ := store.Load(ctx); string(data) != "three" {
		t.Errorf("through a link: %q", data)
	}
	os.Chmod(path, 0o640)
	if _, err := store.Load(ctx); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Load of a file that others can read: %v", err)
	}
	if err := FileStore(filepath.Join(dir, "none", "x")).Save(ctx, nil); err == nil {
		t.Error("Save into no folder succeeds")
	}
	if err := FileStore(dir).Save(ctx, nil); err == nil {
		t.Error("Save over a folder succeeds")
	}
}
