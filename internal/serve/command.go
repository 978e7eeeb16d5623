package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/internal/relay"
)

// Command is `postern serve`.
func Command(version string) *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run Postern: the control loop, the API and the ingress",
		Long: `Run Postern with the roles that its config file names. The file is checked
strictly before anything is opened; docs/serve.md describes every key.

SIGTERM and SIGINT stop it: no more connections are taken, and the open ones
may end until shutdown_timeout. A second signal ends it at once. Killed at any
moment, the next start goes on from what was acknowledged.`,
		Example: `  postern serve --config /etc/postern/serve.yaml
  postern serve --config serve.yaml --check-config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := LoadConfig(file)
			if err != nil || check {
				return err
			}
			return run(cmd.Context(), New(c, p, Options{Version: version, Stdout: cmd.OutOrStdout(), Logger: NewLogger(cmd.ErrOrStderr(), c.Log)}))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the config file (YAML)")
	cmd.Flags().BoolVar(&check, "check-config", false, "check the config and the platform it names, and exit")
	_ = cmd.MarkFlagRequired("config")                // it is there
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // likewise
	return cmd
}

// run serves until a signal comes or a listener fails.
func run(ctx context.Context, s *Server) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if s.config.isNode() {
		runtime.GOMAXPROCS(relay.Processors())
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-s.Failed():
	}
	stop() // the next signal ends the process
	s.options.Logger.Info("stopping", "timeout", s.config.ShutdownTimeout)
	s.Stop()
	return errors.Join(failure)
}

// NewLogger makes the process's own log.
func NewLogger(w io.Writer, c Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked with the config; "" is info
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
