package oauth2

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mediawiki.example/oauth2/mediawiki"
)

// newState returns a fresh state parameter: 26 characters, 130 random bits
// (RFC 6749 sections 10.10 and 10.12).
func newState() string { return rand.Text() }

// equalState compares in constant time.
func equalState(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// A pending login waits for its callback.
type pending struct {
	State       string   `json:"state"`
	Verifier    string   `json:"verifier"`
	RedirectURL string   `json:"redirect_url,omitzero"`
	Scope       string   `json:"scope,omitzero"`
	Sent        []string `json:"sent,omitzero"` // the logins (see loginOf) whose code has been sent
}

// A state is all that a session knows. It is not changed once it is current.
type state struct {
	pending *pending
	token   *token
}

// loginOf identifies a callback without giving it away.
func loginOf(state, code string) string {
	sum := sha256.Sum256([]byte(state + "\x00" + code))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// A core is a login: what the sessions of one user share.
type core struct {
	wiki    mediawiki.Session // where logins and token requests go
	home    home
	client  Client
	options Options
	store   Store
	jar     http.CookieJar

	current atomic.Pointer[state] // never nil
	dead    atomic.Pointer[token] // refused for good
	doubted atomic.Pointer[token] // refused a request that another token did not help either
	held    atomic.Pointer[held]
	dirty   atomic.Bool // current is not saved

	change chan struct{} // holds an element while current is being changed
	saved  []byte        // what was last loaded or saved; guarded by change

	mu     sync.Mutex
	flight *flight // guarded by mu
}

// held is a refresh that failed, and until when not to try another.
type held struct {
	until time.Time
	err   error
}

func newCore(wiki mediawiki.Session, client Client, options *Options) (*core, error) {
	home, err := newHome(wiki.APIURL())
	if err != nil {
		return nil, err
	}
	c := &core{
		wiki: wiki, home: home, client: client, options: *options, store: options.Store,
		jar: newJar(), change: make(chan struct{}, 1),
	}
	first := new(state)
	if access := client.AccessToken.reveal(); access != "" {
		first.token = (&token{access: access, obtained: time.Now()}).seal()
		c.store = nil // nothing will change
	}
	c.current.Store(first)
	return c, nil
}

// lock waits for the right to change what is current.
func (c *core) lock(ctx context.Context) error {
	select {
	case c.change <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("oauth2: %w", context.Cause(ctx))
	}
}

func (c *core) unlock() { <-c.change }

// detach changes what is current in a way that goes on when ctx ends: what the
// wiki has begun to answer must not be lost.
func (c *core) detach(ctx context.Context, change func(context.Context) error) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := change(context.WithoutCancel(ctx))
		c.unlock() // first, so that who is told finds the session free
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("oauth2: %w", context.Cause(ctx))
	}
}

// put makes a state current, saved before it can be used.
func (c *core) put(ctx context.Context, next *state) error {
	err := c.save(ctx, next)
	c.dirty.Store(err != nil)
	c.current.Store(next)
	return err
}

const storeTimeout = 30 * time.Second

func (c *core) save(ctx context.Context, next *state) error {
	if c.store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	data := c.encode(next)
	if err := c.store.Save(ctx, data); err != nil {
		c.warn(ctx, "cannot save", err)
		return &SaveError{err}
	}
	c.saved = data
	return nil
}

// flush saves what could not be saved before, unless somebody is at it.
func (c *core) flush(ctx context.Context) {
	select {
	case c.change <- struct{}{}:
		defer c.unlock()
	default:
		return
	}
	if c.dirty.Load() {
		c.reload(ctx) // adopts what is newer
	}
	if c.dirty.Load() {
		c.dirty.Store(c.save(context.WithoutCancel(ctx), c.current.Load()) != nil)
	}
}

// load reads the store for the first time.
func (c *core) load(ctx context.Context) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	_, err := c.reload(ctx)
	return err
}

// reload adopts what another process has saved, and reports whether that has
// another token. A store that has become empty takes nothing away.
func (c *core) reload(ctx context.Context) (adopted bool, err error) {
	if c.store == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	data, err := c.store.Load(ctx)
	if err != nil {
		return false, fmt.Errorf("oauth2: load the session: %w", err)
	}
	if len(data) == 0 || bytes.Equal(data, c.saved) {
		return false, nil
	}
	stored, err := c.decode(data)
	if err != nil {
		return false, err
	}
	mine := c.current.Load()
	if c.dirty.Load() && mine.token != nil && (stored.token == nil || stored.token.obtained.Before(mine.token.obtained)) {
		return false, nil // what is not saved yet is newer
	}
	c.saved = data
	if stored.token != nil && mine.token != nil && stored.token.access == mine.token.access {
		stored.token = mine.token
	}
	c.dirty.Store(false)
	c.current.Store(stored)
	if stored.token == nil || stored.token == mine.token {
		return false, nil
	}
	if mine.token != nil {
		c.info(ctx, "adopted the tokens of another process")
	}
	return true, nil
}

// A SaveError means that a [Store] could not save. The session has its new
// state all the same, works with it, and tries to save it again with the next
// operation; if the program ends before that succeeds, the login may be lost.
// The request that met it has not been carried out: make it again.
type SaveError struct {
	Err error
}

func (e *SaveError) Error() string {
	return "oauth2: the session's new state is not saved: " + e.Err.Error()
}

// Unwrap returns the Store's error.
func (e *SaveError) Unwrap() error { return e.Err }

// serialVersion is the version of the form below.
const serialVersion = 1

// serial is the saved form of a state. The client and the wiki are in it
// because a refresh token goes to nobody else (RFC 6749 section 10.4), and a
// code to nobody else than who was asked for it (RFC 9700 section 4.4).
type serial struct {
	Version int          `json:"version"`
	Wiki    string       `json:"wiki"`
	Client  string       `json:"client"`
	Pending *pending     `json:"pending,omitzero"`
	Token   *serialToken `json:"token,omitzero"`
}

type serialToken struct {
	Access   string    `json:"access_token"`
	Refresh  string    `json:"refresh_token,omitzero"`
	Expiry   time.Time `json:"expiry,omitzero"`
	Lifetime int64     `json:"lifetime,omitzero"` // seconds
	Obtained time.Time `json:"obtained"`
	Scope    string    `json:"scope,omitzero"`
	Login    string    `json:"login,omitzero"`
	Machine  bool      `json:"machine,omitzero"`
}

func (c *core) encode(s *state) []byte {
	v := serial{Version: serialVersion, Wiki: c.home.script(""), Client: c.client.ID, Pending: s.pending}
	if t := s.token; t != nil {
		v.Token = &serialToken{t.access, t.refresh, t.expiry.UTC(), int64(t.lifetime / time.Second), t.obtained.UTC(), t.scope, t.login, t.machine}
	}
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and times of years that have four digits
	}
	return data
}

func (c *core) decode(data []byte) (*state, error) {
	var v serial
	var head struct{ Version int }
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := json.Unmarshal(data, &head); err != nil { // which never tells a value
		return nil, errors.New("oauth2: the saved session is damaged: it is not JSON")
	}
	if head.Version != serialVersion {
		return nil, fmt.Errorf("oauth2: the saved session has version %d, want %d: it is of another version of this package", head.Version, serialVersion)
	}
	if d.Decode(&v) != nil {
		return nil, errors.New("oauth2: the saved session is damaged: it has unknown or unfit members")
	}
	if v.Client != c.client.ID || v.Wiki != c.home.script("") {
		return nil, fmt.Errorf("oauth2: the saved session is of client %q at %s, not of client %q at %s", v.Client, v.Wiki, c.client.ID, c.home.script(""))
	}
	s := &state{pending: v.Pending}
	if p := v.Pending; p != nil && (p.State == "" || p.Verifier == "") {
		return nil, errors.New("oauth2: the saved session is damaged: its pending login has no state or no verifier")
	}
	if t := v.Token; t != nil {
		if t.Access == "" || !visible(t.Access) || !plausible(t.Expiry) || !plausible(t.Obtained) || t.Lifetime < 0 || t.Lifetime > int64(maxLifetime/time.Second) {
			return nil, errors.New("oauth2: the saved session is damaged: its token is unfit")
		}
		s.token = (&token{
			access: t.Access, refresh: t.Refresh, expiry: t.Expiry, lifetime: time.Duration(t.Lifetime) * time.Second,
			obtained: t.Obtained, scope: t.Scope, login: t.Login, machine: t.Machine, anonymous: t.Machine,
		}).seal()
	}
	return s, nil
}

// plausible reports whether a time can be written in JSON, whatever its zone.
func plausible(t time.Time) bool { return t.Year() >= 1 && t.Year() < 9999 }

// Serialize returns the session's state, a pending login and tokens, for
// Deserialize. It contains secrets: keep it where only the program can read it,
// and never in a cookie. A session with a [Store] needs neither.
func (s *Session) Serialize() []byte { return s.core.encode(s.core.current.Load()) }

// Deserialize sets the session's state to what Serialize returned, for the same
// client and the same wiki. With a store it is saved there. On an error other than
// a [*SaveError] nothing has changed.
func (s *Session) Deserialize(data []byte) error {
	next, err := s.core.decode(data)
	if err != nil {
		return err
	}
	return s.core.replace(next)
}

// replace makes a state current that came from outside.
func (c *core) replace(next *state) error {
	ctx := context.Background()
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	c.held.Store(nil)
	return c.put(ctx, next)
}

// oauth2Token is the JSON form of golang.org/x/oauth2's Token.
type oauth2Token struct {
	Access  string    `json:"access_token"`
	Type    string    `json:"token_type,omitzero"`
	Refresh string    `json:"refresh_token,omitzero"`
	Expiry  time.Time `json:"expiry,omitzero"`
}

// ExportToken returns the tokens as the JSON form of golang.org/x/oauth2's
// Token. It contains secrets. Whoever refreshes first invalidates the tokens of
// the other. The error is ErrReauthorize if there are none.
func (s *Session) ExportToken() ([]byte, error) {
	t := s.core.current.Load().token
	if t == nil {
		return nil, errNoLogin
	}
	return json.Marshal(oauth2Token{t.access, "Bearer", t.refresh, t.expiry.UTC()})
}

// ImportToken makes the session one of the user whose tokens are given as the
// JSON form of golang.org/x/oauth2's Token. They must be of the session's
// client. With a store they are saved there. On an error other than a
// [*SaveError] nothing has changed.
func (s *Session) ImportToken(data []byte) error {
	var v oauth2Token
	if json.Unmarshal(data, &v) != nil {
		return errors.New("oauth2: the token is not the JSON form of golang.org/x/oauth2's Token")
	}
	if v.Access == "" || !visible(v.Access) || v.Type != "" && !strings.EqualFold(v.Type, "bearer") {
		return errors.New("oauth2: the token has no access_token, or is not of type Bearer")
	}
	now := time.Now()
	t := &token{access: v.Access, refresh: v.Refresh, obtained: now}
	if !v.Expiry.IsZero() {
		t.withLifetime(min(max(time.Second, v.Expiry.Sub(now)), maxLifetime))
	}
	return s.core.replace(&state{token: t.seal()})
}

// A Store keeps the state of one session, which is opaque and contains secrets.
// Load returns what Save was last given, by whatever process, and nothing at
// all if there is nothing. Save must replace the whole, or fail and leave what
// was there.
//
// A Store may be called from several goroutines, but never at once by one
// session.
type Store interface {
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, data []byte) error
}

// FileStore returns a store that keeps the state in a file which only its owner
// may read; one that others may read is refused. The file is replaced in one
// step, on disk before Save returns, so that a crash leaves the old state or the
// new one.
func FileStore(path string) Store { return fileStore(path) }

type fileStore string

func (s fileStore) Load(context.Context) ([]byte, error) {
	f, err := os.Open(string(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %#o): make it private with chmod 600, and log in again if others may have read it", s, info.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, maxAnswer))
}

func (s fileStore) Save(_ context.Context, data []byte) (err error) {
	path := string(s)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // replace the file, not the link to it
	}
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+base+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	removeLeftovers(dir, base)
	return syncDir(dir)
}

// syncDir makes a rename last. Not every system can.
func syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return nil
	}
	defer d.Close()
	if err := d.Sync(); err != nil && runtime.GOOS == "linux" {
		return err
	}
	return nil
}

// removeLeftovers removes what processes that died while saving left behind.
func removeLeftovers(dir, base string) {
	names, _ := filepath.Glob(filepath.Join(dir, "."+base+".*.tmp"))
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > time.Minute {
			os.Remove(name)
		}
	}
}

// sentWith returns a copy of a pending login that remembers a code as sent.
func (p *pending) sentWith(login string) *pending {
	next := *p
	next.Sent = append(slices.Clone(p.Sent), login)
	return &next
}

func (c *core) info(ctx context.Context, message string, attrs ...slog.Attr) {
	if c.options.Logger != nil {
		c.options.Logger.LogAttrs(ctx, slog.LevelInfo, "oauth2: "+message, attrs...)
	}
}

func (c *core) warn(ctx context.Context, message string, err error) {
	if c.options.Logger == nil {
		return
	}
	var attrs []slog.Attr
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	c.options.Logger.LogAttrs(ctx, slog.LevelWarn, "oauth2: "+message, attrs...)
}
