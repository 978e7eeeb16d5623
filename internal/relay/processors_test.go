package relay_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/postern-net/postern/internal/relay"
)

// How many processors there are to use is what the process was started with,
// also when it has set GOMAXPROCS to what engines need.
func TestProcessors(t *testing.T) {
	t.Parallel()
	const asked = "POSTERN_TEST_PROCESSORS"
	if os.Getenv(asked) != "" {
		first := relay.Processors()
		runtime.GOMAXPROCS(first)
		fmt.Fprintln(os.Stdout, first, relay.Processors(), "processors")
		return
	}
	self, err := os.Executable()
	must(t, err)
	c := exec.CommandContext(t.Context(), self, "-test.run=^TestProcessors$")
	c.Env = append(os.Environ(), asked+"=1", "GOMAXPROCS=1")
	out, err := c.Output()
	must(t, err)
	var first, then int
	if _, err := fmt.Sscanf(string(out), "%d %d processors", &first, &then); err != nil || first != 3 || then != 3 {
		t.Errorf("%d and then %d (%v); one processor needs 3", first, then, err)
	}
}
