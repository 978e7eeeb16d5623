// Postern is the private door of a SaaS platform; see "postern help".
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/postern-net/postern/internal/cli"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/sandbox"
	"github.com/postern-net/postern/internal/serve"
)

func main() { os.Exit(run()) }

// run ends everything at the first interrupt; at the second, the system ends
// it.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	build := cli.ReadBuild()
	return cli.Execute(ctx, cli.New(cli.System(), build,
		sandbox.Command(build.Version), serve.Command(build.Version), localaws.Command()))
}
