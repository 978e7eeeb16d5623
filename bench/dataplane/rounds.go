//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// plan is what is to be measured.
type plan struct {
	rounds       int
	length       time.Duration
	loads, peers []string // empty: all
	envoy        string
	dir, file    string
}

// sample is one measurement.
type sample struct {
	Load    string  `json:"load"`
	Peer    string  `json:"peer"`
	Round   int     `json:"round"`
	Busy    string  `json:"busy"` // load average of the machine before it
	Result  result  `json:"result"`
	Proxy   float64 `json:"proxy"`   // processor seconds of the proxy
	Backend float64 `json:"backend"` // and of the backend
	KB, FDs float64 // idle: per connection
	Failed  string  `json:"failed,omitempty"` // a check that a peer of ours or another's did not pass
}

// world is all processes of a run.
type world struct {
	plan
	peers   []*peer
	backend *exec.Cmd
	out     *json.Encoder
}

// measure starts everything, checks integrity, and plays the rounds: within a
// round each load is played on each peer, one after the other, so that whatever
// else the machine does meets all of them, and each time another one is first. What
// varies most for its length is played in slices.
func measure(ctx context.Context, p plan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := os.OpenFile(p.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &world{plan: p, out: json.NewEncoder(f)}
	if err := w.start(ctx); err != nil {
		return err
	}
	if err := w.integrity(ctx); err != nil {
		return err
	}
	for round := range p.rounds {
		for _, l := range loads() {
			if len(p.loads) > 0 && !slices.Contains(p.loads, l.name) {
				continue
			}
			if l.name == "idle" && round >= enough {
				continue // it takes long, and hardly varies
			}
			for slice := range l.slices {
				for i := range w.peers {
					if err := w.play(ctx, l, w.peers[(i+round+slice)%len(w.peers)], round); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// play makes a measurement, keeps it and prints it.
func (w *world) play(ctx context.Context, l load, x *peer, round int) error {
	s, err := w.sample(ctx, l, x)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", l.name, x.title, err)
	}
	s.Round = round
	if err := w.out.Encode(s); err != nil {
		return err
	}
	fmt.Printf("%d %-12s %-38s %12d in %v, proxy %6.3f s, all %6.3f s, p99 %v, %.2f KB\n",
		round, l.name, x.title, s.Result.Count, s.Result.Took.Round(time.Millisecond), s.Proxy, s.Proxy+s.Backend+s.Result.Clients, s.Result.P99, s.KB)
	return nil
}

func (w *world) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	w.backend = exec.CommandContext(ctx, self, "backend") //nolint:gosec // this program
	w.backend.Stderr = os.Stderr
	w.backend.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.backend.Start(); err != nil {
		return err
	}
	for _, p := range peers(w.envoy) {
		if len(w.plan.peers) > 0 && !slices.Contains(w.plan.peers, p.name) {
			continue
		}
		if err := p.start(ctx, w.dir); err != nil {
			return fmt.Errorf("start %s: %w", p.title, err)
		}
		w.peers = append(w.peers, p)
	}
	for _, p := range w.peers {
		if err := p.await(ctx); err != nil {
			return fmt.Errorf("%s does not listen (see %s/%s.out): %w", p.title, w.dir, p.name, err)
		}
	}
	return nil
}

func (p *peer) await(ctx context.Context) error {
	if p.command == nil {
		return nil
	}
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		var c net.Conn
		var d net.Dialer
		if c, err = d.DialContext(ctx, "tcp", p.addr().String()); err == nil {
			return c.Close()
		}
	}
	return err
}

// client runs a client and gives its last line.
func (w *world) client(ctx context.Context, x *peer, name string, length time.Duration, opened func(pid int) error) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	args := []string{"client", "-load", name, "-length", length.String()}
	if x.command != nil {
		args = append(args, "-to", x.addr().String())
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // this program
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var last string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last = lines.Text(); last == "open" && opened != nil {
			err = opened(cmd.Process.Pid)
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if waitErr := cmd.Wait(); waitErr != nil {
		return "", errors.New(strings.TrimSpace(strings.TrimPrefix(complaint.String(), "dataplane: ") + " " + waitErr.Error()))
	}
	return last, err
}

// integrity plays the checks on each peer. What ours does not pass ends the
// run; of the others it is told, and their numbers are taken for what they are.
func (w *world) integrity(ctx context.Context) error {
	for _, x := range w.peers {
		for _, c := range checks() {
			_, err := w.client(ctx, x, c.name, w.length, nil)
			if err == nil {
				continue
			}
			fmt.Printf("%s fails: %s: %v\n", x.title, c.name, err)
			if x.ours || x.command == nil {
				return fmt.Errorf("%s: %s: %w", x.title, c.name, err)
			}
			if err := w.out.Encode(sample{Peer: x.name, Failed: c.name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample measures once.
func (w *world) sample(ctx context.Context, l load, x *peer) (sample, error) {
	s := sample{Load: l.name, Peer: x.name, Busy: busy()}
	pids := []int{w.backend.Process.Pid}
	if x.process != nil {
		pids = append(pids, x.process.Pid)
	}
	if l.name == "idle" {
		// What was kept from other loads would be taken for nothing.
		if err := w.restart(ctx, x); err != nil {
			return s, err
		}
		if x.process != nil {
			pids[1] = x.process.Pid
		}
	}
	before, err := each2(pids, spent)
	if err != nil {
		return s, err
	}
	var kb, fds int64
	if x.process != nil {
		if kb, fds, err = resident(x.process.Pid); err != nil {
			return s, err
		}
	}
	line, err := w.client(ctx, x, l.name, w.length/time.Duration(l.slices), func(pid int) error {
		if x.process != nil {
			<-time.After(3 * time.Second) // what is left from opening goes
			kb2, fds2, err := resident(x.process.Pid)
			if err != nil {
				return err
			}
			s.KB, s.FDs = float64(kb2-kb)/float64(l.conns), float64(fds2-fds)/float64(l.conns)
		}
		return syscall.Kill(pid, syscall.SIGUSR1)
	})
	if err != nil {
		return s, err
	}
	after, err := each2(pids, spent)
	if err != nil {
		return s, err
	}
	s.Backend = (after[0] - before[0]).Seconds()
	if len(pids) > 1 {
		s.Proxy = (after[1] - before[1]).Seconds()
	}
	return s, json.Unmarshal([]byte(line), &s.Result)
}

// restart replaces a proxy by a new process.
func (w *world) restart(ctx context.Context, x *peer) error {
	if x.process == nil {
		return nil
	}
	// Not killed: nginx' workers would stay.
	if err := x.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-x.gone:
	case <-time.After(10 * time.Second):
		return errors.New("does not end")
	}
	if err := x.start(ctx, w.dir); err != nil {
		return err
	}
	return x.await(ctx)
}

func each2(pids []int, f func(int) (time.Duration, error)) ([]time.Duration, error) {
	out := make([]time.Duration, len(pids))
	for i, p := range pids {
		var err error
		if out[i], err = f(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}
