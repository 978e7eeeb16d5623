//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dataplane:", err)
		os.Exit(1)
	}
}

// run plays the role that it is given.
func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(args) == 0 {
		return errors.New("give a role: measure, report, overload, proxy, backend, client or slow")
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	var (
		engine = f.String("engine", "", "proxy: epoll or goroutine")
		listen = f.String("listen", "", "proxy: the address")
		log    = f.String("log", "", "proxy: the access log")
		name   = f.String("load", "", "client: the load, or a check's number")
		to     = f.String("to", "", "client: the proxy; empty: the backends themselves")
		length = f.Duration("length", 2*time.Second, "how long each measurement takes")
		rounds = f.Int("rounds", 10, "measure: how often each is repeated")
		only   = f.String("loads", "", "measure: some of the loads, with commas between")
		who    = f.String("peers", "", "measure: some of the proxies")
		envoy  = f.String("envoy", "", "measure: Envoy's program")
		dir    = f.String("dir", "", "measure: a folder for configurations and logs")
		file   = f.String("file", "", "measure, report: the measurements, one JSON object a line")
	)
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "backend":
		return serveBackends(ctx)
	case "proxy":
		return serveIngress(ctx, *engine, *listen, *log)
	case "client":
		return runClient(*name, *to, *length)
	case "measure":
		return measure(ctx, plan{rounds: *rounds, length: *length, loads: split(*only), peers: split(*who), envoy: *envoy, dir: *dir, file: *file})
	case "overload":
		return overload(ctx, *engine, *dir, *length)
	case "slow":
		at, err := netip.ParseAddrPort(*to)
		if err != nil {
			return err
		}
		c, err := newClient(load{service: short}, at, false, *length)
		if err != nil {
			return err
		}
		return slow(ctx, c)
	case "report":
		return report(*file, os.Stdout)
	}
	return fmt.Errorf("no role %q", args[0])
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// runClient makes one load, or one check, and prints its result.
func runClient(name, to string, length time.Duration) error {
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	var at netip.AddrPort
	if to != "" {
		var err error
		if at, err = netip.ParseAddrPort(to); err != nil {
			return err
		}
	}
	for _, x := range checks() {
		if x.name == name {
			c, err := newClient(load{service: echo}, at, to == "", length)
			if err != nil {
				return err
			}
			return x.run(c)
		}
	}
	i := slices.IndexFunc(loads(), func(l load) bool { return l.name == name })
	if i < 0 {
		return fmt.Errorf("no load %q", name)
	}
	c, err := newClient(loads()[i], at, to == "", length)
	if err != nil {
		return err
	}
	r, err := c.load.run(c)
	if err != nil {
		return err
	}
	own, err := spent(os.Getpid())
	if err != nil {
		return err
	}
	r.Clients = own.Seconds()
	return json.NewEncoder(os.Stdout).Encode(r)
}
