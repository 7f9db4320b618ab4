package oauth2

import (
	"regexp"
	"testing"
)

func TestChallenge(t *testing.T) {
	// RFC 7636 appendix B.
	const verifier, want = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	if got := challenge(verifier); got != want {
		t.Errorf("challenge(%q) = %q, want %q", verifier, got, want)
	}
}

func TestVerifier(t *testing.T) {
	form := regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`) // RFC 7636 section 4.1
	seen := make(map[string]bool)
	for range 1000 {
		v := newVerifier()
		if !form.MatchString(v) || seen[v] {
			t.Fatalf("verifier %q is not fit, or not fresh", v)
		}
		seen[v] = true
	}
}
