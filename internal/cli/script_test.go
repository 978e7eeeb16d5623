package cli_test

import (
	"context"
	"flag"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/cli"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/store"
)

var update = flag.Bool("update", false, "write what is printed into the scripts")

// TestMain also makes this test's program the command that scripts run.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"postern": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			os.Exit(cli.Execute(ctx, cli.New(cli.System(), cli.Build{Version: "v1.2.3", Go: "go", Platform: "os/arch"}))) //nolint:forbidigo // this is its main
		},
	})
}

// Commands that need nothing but this machine, and every way in which the API
// is not reached.
func TestLocalScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/local", UpdateScripts: *update, RequireExplicitExec: true, Setup: clearEnvironment,
	})
}

// Commands in front of a running control plane and the stand-in for AWS, each
// script in a world of its own.
func TestWorldScripts(t *testing.T)    { runInWorlds(t, "testdata/world", true) }
func TestApprovalScripts(t *testing.T) { runInWorlds(t, "testdata/approval", false) }

func clearEnvironment(e *testscript.Env) error {
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	e.Setenv("AWS_CONFIG_FILE", filepath.Join(e.WorkDir, "aws.config"))
	e.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(e.WorkDir, "aws.credentials"))
	return nil
}

type worldKey struct{}

func runInWorlds(t *testing.T, dir string, automatic bool) {
	t.Helper()
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: dir, UpdateScripts: *update, RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			if err := clearEnvironment(e); err != nil {
				return err
			}
			w, err := newWorld(context.Background(), e.WorkDir, automatic)
			if err != nil {
				return err
			}
			e.Defer(w.stop)
			e.Values[worldKey{}] = w
			e.Setenv("POSTERN_API", w.url)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"as": as, "mode": mode, "with-aws": withAWS, "create-endpoint": createEndpoint, "delete-endpoint": deleteEndpoint,
			"await": await, "stable": stable, "break-aws": breakAWS, "deny": deny,
			"visit": visitPrivately, "visit-publicly": visitPublicly, "keep-coming": keepComing, "address": address, "ask-backends": askBackends,
			"lose-node": loseNode, "fence": fence,
			"keep": keep, "cluster": clusterOf, "prove-hostname": proveHostname, "authorize": authorize, "require-acceptance": requireAcceptance, "accept": acceptAll, "certificate": certificate,
		},
	})
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) } //nolint:forcetypeassert // Setup put it there

// mode OCTAL FILE: who may do what with the file.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// as NAME: the token in use.
func as(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("POSTERN_TOKEN", worldOf(ts).tokens[args[0]])
}

// with-aws CUSTOMER: AWS credentials in the environment, and $ACCOUNT.
func withAWS(ts *testscript.TestScript, _ bool, args []string) {
	account := worldOf(ts).customers[args[0]]
	key := account.AccessKeys[0]
	ts.Setenv("ACCOUNT", account.ID)
	ts.Setenv("AWS_ACCESS_KEY_ID", key.ID)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", key.Secret)
}

// create-endpoint VARIABLE CUSTOMER: by the EC2 API, in the customer's account.
func createEndpoint(ts *testscript.TestScript, _ bool, args []string) {
	id, err := worldOf(ts).createEndpoint(context.Background(), args[1])
	ts.Check(err)
	ts.Setenv(args[0], id)
}

// delete-endpoint VARIABLE CUSTOMER: likewise.
func deleteEndpoint(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(worldOf(ts).deleteEndpoint(context.Background(), args[1], ts.Getenv(args[0])))
}

// await PATTERN COMMAND…: repeat it until its output matches.
func await(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	ts.Check(until(context.Background(), func() (bool, error) {
		err := ts.Exec(args[1], args[2:]...)
		return pattern.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")), err
	}))
}

var moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)

var localPort = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// namePart is what AWS puts into an endpoint's DNS names against guessing.
var namePart = regexp.MustCompile(`-[a-z0-9]{8}((?:-[a-z0-9-]+)?\.vpce-svc-)`)

// stable SOURCE FILE VARIABLE…: what was printed, with names in place of what
// differs from run to run. A name is as long as what it stands for where
// columns depend on it.
func stable(ts *testscript.TestScript, _ bool, args []string) {
	text := moment.ReplaceAllString(ts.ReadFile(args[0]), "2026-mm-ddThh:mm:ssZ")
	for _, v := range args[2:] {
		text = strings.ReplaceAll(text, ts.Getenv(v), (v + strings.Repeat("-", 22))[:22])
	}
	text = localPort.ReplaceAllString(text, "127.0.0.1:9")
	text = namePart.ReplaceAllString(text, "-xxxxxxxx$1")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// break-aws ACTION CODE: it fails from now on.
func breakAWS(ts *testscript.TestScript, _ bool, args []string) {
	_, err := worldOf(ts).cloud.Faults().Add(localaws.Fault{Kind: localaws.FaultError, Action: args[0], Code: args[1], Status: 403, Message: "words of AWS"})
	ts.Check(err)
}

// deny VARIABLE SERVER-NAME: a node reports that it refused this endpoint.
func deny(ts *testscript.TestScript, _ bool, args []string) {
	at := time.Date(2026, 11, 22, 10, 15, 0, 0, time.UTC)
	ts.Check(worldOf(ts).store.Update(context.Background(), func(tx *store.Tx) error {
		return tx.AddArrivals([]postern.ArrivalCount{{
			Region: virginia, Listener: "private", EndpointID: ts.Getenv(args[0]), ServerName: args[1], Denial: postern.DenyNotAuthorized,
			Organization: "globex", Count: 3, FirstSeen: at, LastSeen: at,
		}})
	}))
}

// address VARIABLE: of the endpoint's first network interface, as $ENI, and of
// a client beside it, as $CLIENT; the public ingress is $PUBLIC.
func address(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	info, err := w.cloud.Endpoint(ts.Getenv(args[0]))
	ts.Check(err)
	ts.Setenv("ENI", net.JoinHostPort(info.Addresses[0], strconv.Itoa(int(w.door))))
	ts.Setenv("CLIENT", w.clientAddress().String())
	ts.Setenv("PUBLIC", w.plane.public.String())
}

// visit HOST: as a client in the network of $ENI.
func visitPrivately(ts *testscript.TestScript, neg bool, args []string) {
	err := visit(context.Background(), worldOf(ts).clientAddress(), netip.MustParseAddrPort(ts.Getenv("ENI")), args[0])
	visited(ts, neg, err)
}

// visit-publicly HOST: as a client on the internet.
func visitPublicly(ts *testscript.TestScript, neg bool, args []string) {
	come := func() error {
		return visit(context.Background(), netip.MustParseAddr("127.0.0.1"), worldOf(ts).plane.public, args[0])
	}
	if neg {
		visited(ts, neg, come())
		return
	}
	// Nodes hear of a rollback a moment later.
	ts.Check(until(context.Background(), func() (bool, error) { err := come(); return err == nil, err }))
}

// keep-coming HOST PATTERN COMMAND…: visit it publicly and run the command, in
// turn, until its output matches.
func keepComing(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[1])
	ts.Check(until(context.Background(), func() (bool, error) {
		visitPublicly(ts, false, args[:1])
		err := ts.Exec(args[2], args[3:]...)
		return pattern.MatchString(ts.ReadFile("stdout")), err
	}))
}

func visited(ts *testscript.TestScript, neg bool, err error) {
	if neg && err == nil {
		ts.Fatalf("was let in")
	}
	if !neg {
		ts.Check(err)
	}
}

// ask-backends: the node asks them for hosts that were not admitted.
func askBackends(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	ts.Check(w.plane.askBackends(context.Background(), w.store))
}

// lose-node ID: a node that registered, and was not heard of since.
func loseNode(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(worldOf(ts).store.Update(context.Background(), func(tx *store.Tx) error {
		_, _, err := tx.UpsertNode(postern.Node{ID: args[0], Regions: []string{virginia}, BootID: "lost-for-good", LastSeen: time.Now().Add(-time.Hour)})
		return err
	}))
}

// fence ID: an operator asserts that no traffic reaches it.
func fence(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(worldOf(ts).store.Update(context.Background(), func(tx *store.Tx) error {
		n, err := tx.FindNode(args[0])
		if err != nil {
			return err
		}
		_, err = tx.FenceNode(n, "ada", time.Now())
		return err
	}))
}
