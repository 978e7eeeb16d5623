package localaws

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Command is `postern localaws`.
func Command() *cobra.Command {
	var world string
	var cfg Config
	var public string
	cmd := &cobra.Command{
		Use:   "localaws --world FILE",
		Short: "Run the stand-in for AWS alone",
		Long: `Run the stand-in for AWS alone: EC2's PrivateLink actions, Route 53 and STS on one address,
for the AWS CLI and every SDK, and a data path that forwards real bytes from
available endpoints to the targets of their load balancers.

The world file names the accounts with their access keys, the networks, load
balancers and endpoint services; every sandbox writes one, world.yaml. Point
clients at it with AWS_ENDPOINT_URL or --endpoint-url.

--allow-faults lets whoever reaches the address break, delay and pause calls.`,
		Example: `  postern localaws --world world.yaml --state localaws.json --listen 127.0.0.1:4566
  aws --endpoint-url http://127.0.0.1:4566 ec2 describe-vpc-endpoint-connections`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			var err error
			if cfg.World, err = LoadWorld(world); err != nil {
				return err
			}
			if public != "" {
				if cfg.DNS.Public, err = netip.ParseAddr(public); err != nil {
					return fmt.Errorf("--public-resolver: %q is not an address; give one such as 127.64.0.2", public)
				}
			}
			cfg.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			s, err := New(cfg)
			if err != nil {
				return err
			}
			return s.Serve(ctx)
		},
	}
	cmd.Flags().StringVar(&world, "world", "", "the world file (YAML)")
	cmd.Flags().StringVar(&cfg.StatePath, "state", "", "keep the state in this file (default: in memory)")
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:4566", "address of the API")
	cmd.Flags().Uint16Var(&cfg.DNS.Port, "dns-port", 0, "port of the VPCs' resolvers (default: there are none)")
	cmd.Flags().StringVar(&public, "public-resolver", "", "address of a public resolver on the same port (default: there is none)")
	cmd.Flags().BoolVar(&cfg.Throttle, "throttle", false, "enforce the token buckets of EC2 and Route 53")
	cmd.Flags().BoolVar(&cfg.AllowFaults, "allow-faults", false, "let calls be broken by /_localaws/")
	_ = cmd.MarkFlagRequired("world") // it is there
	return cmd
}
