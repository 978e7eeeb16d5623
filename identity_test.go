package postern_test

import (
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
)

// An event or an approval by Postern itself cannot be anybody's.
func TestTokensDoNotBearPosternsOwnNames(t *testing.T) {
	for name, refused := range map[string]bool{
		"policy": true, "loop": true, "serve": true, "bootstrap": true, "Policy": true, " loop ": true,
		"ada": false, "policy-team": false, "loop-2": false,
	} {
		err := postern.Token{Name: name, Role: postern.RoleOperator}.Validate(time.Now())
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), "spec.name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
