package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/postern-net/postern/internal/serve"
)

// killable runs `postern serve` as processes of their own. To stop one is to
// kill it: whatever it was doing, and wherever a cutover was.
func killable(binary string, log *os.File) func(context.Context, string) (func(), error) {
	return func(ctx context.Context, config string) (func(), error) {
		c, _, err := serve.LoadConfig(config)
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(binary, "serve", "--config", config) //nolint:gosec // the test's own program, which outlives the start's context
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		kill := func() {
			_ = cmd.Process.Kill() // it may have ended, which the next check shows
			_ = cmd.Wait()         // "signal: killed"
		}
		ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
		defer cancel()
		health := "http://" + c.Admin.Listen.String() + "/healthz"
		if err := until(ctx, func() error { return alive(ctx, health) }); err != nil {
			kill()
			return nil, err
		}
		return kill, nil
	}
}

// alive tells whether a process has opened everything: its admin port is last.
func alive(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
