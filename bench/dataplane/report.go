//go:build linux

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// row is a line of the report's table.
type row struct {
	title string
	load  string
	value func(s sample) float64
	note  string
}

func rows() []row {
	seconds := func(s sample) float64 { return s.Result.Took.Seconds() }
	count := func(s sample) float64 { return float64(s.Result.Count) }
	all := func(s sample) float64 { return s.Proxy + s.Backend + s.Result.Clients }
	return []row{
		{"conn/s, thousands", "connections", func(s sample) float64 { return count(s) / seconds(s) / 1e3 }, "more is better"},
		{"proxy CPU s / 10k conn", "connections", func(s sample) float64 { return s.Proxy / count(s) * 1e4 }, ""},
		{"all CPU s / 10k conn", "connections", func(s sample) float64 { return all(s) / count(s) * 1e4 }, ""},
		{"TLS/s", "tls", func(s sample) float64 { return count(s) / seconds(s) }, "more is better"},
		{"proxy CPU s / 10k TLS", "tls", func(s sample) float64 { return s.Proxy / count(s) * 1e4 }, ""},
		{"GB/s, 1 stream", "bulk-1", func(s sample) float64 { return count(s) / seconds(s) / 1e9 }, "more is better"},
		{"proxy CPU s / GB, 1 stream", "bulk-1", func(s sample) float64 { return s.Proxy / count(s) * 1e9 }, ""},
		{"GB/s, 16 streams", "bulk-16", func(s sample) float64 { return count(s) / seconds(s) / 1e9 }, "more is better"},
		{"proxy CPU s / GB, 16 streams", "bulk-16", func(s sample) float64 { return s.Proxy / count(s) * 1e9 }, ""},
		{"64 B × 64, thousand requests/s", "messages", func(s sample) float64 { return count(s) / seconds(s) / 1e3 }, "more is better"},
		{"the same, proxy CPU s / 100k", "messages", func(s sample) float64 { return s.Proxy / count(s) * 1e5 }, ""},
		{"the same, p50 µs", "messages", func(s sample) float64 { return float64(s.Result.P50.Microseconds()) }, ""},
		{"the same, p99 µs", "messages", func(s sample) float64 { return float64(s.Result.P99.Microseconds()) }, ""},
		{"4,000 requests/s, proxy CPU s / 100k", "paced", func(s sample) float64 { return s.Proxy / count(s) * 1e5 }, ""},
		{"the same, p50 µs", "paced", func(s sample) float64 { return float64(s.Result.P50.Microseconds()) }, ""},
		{"the same, p99 µs", "paced", func(s sample) float64 { return float64(s.Result.P99.Microseconds()) }, ""},
		{"idle, KB / connection", "idle", func(s sample) float64 { return s.KB }, ""},
		{"idle, descriptors / connection", "idle", func(s sample) float64 { return s.FDs }, ""},
	}
}

// samples are what was measured, by load and peer.
type samples map[string]map[string][]sample

func (all samples) of(load, peer string) []sample { return all[load][peer] }

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// ratio is the median of the ratios of the rounds, in each of which both met
// the same machine.
// It tells how many those are.
func (all samples) ratio(r row, of, to string) (float64, int) {
	var v []float64
	for _, a := range all.of(r.load, of) {
		for _, b := range all.of(r.load, to) {
			if a.Round == b.Round && r.value(b) > 0 {
				v = append(v, r.value(a)/r.value(b))
				break
			}
		}
	}
	return median(v), len(v)
}

// report writes RESULTS.md. It fails where something does not hold that must.
func report(file string, to io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	all, failed, busiest := samples{}, map[string][]string{}, []string{}
	rounds := map[string]int{} // of each load and peer: a run in pieces counts on
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var s sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return err
		}
		if s.Failed != "" {
			if !slices.Contains(failed[s.Peer], s.Failed) {
				failed[s.Peer] = append(failed[s.Peer], s.Failed)
			}
			continue
		}
		if all[s.Load] == nil {
			all[s.Load] = map[string][]sample{}
		}
		s.Round = rounds[s.Load+s.Peer]
		rounds[s.Load+s.Peer]++
		all[s.Load][s.Peer] = append(all[s.Load][s.Peer], s)
		busiest = append(busiest, s.Busy)
	}
	w := &document{Writer: to, all: all}
	w.head(busiest, failed)
	w.table()
	missed := w.bounds("What must hold", "does not hold", floors())
	w.bounds("What is aimed at", "missed", aims())
	if missed > 0 {
		return fmt.Errorf("%d ratios that must hold do not, or were not measured %d times", missed, enough)
	}
	return nil
}

type document struct {
	io.Writer
	all samples
}

func (d *document) printf(format string, args ...any) { fmt.Fprintf(d, format, args...) }

func (d *document) head(busiest []string, failed map[string][]string) {
	slices.SortFunc(busiest, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	d.printf("# Data path: results\n\nWritten by `bench/dataplane/run.sh` (`make bench-dataplane`); [doc.go](doc.go) says what is done, [peers.go](peers.go) how each proxy is set up, [NOTES.md](NOTES.md) what the numbers are worth.\n\n")
	d.printf("Machine: %d processors, %s, Linux %s, congestion control %s, %s. Load average meanwhile, other work included: %s to %s.\n", runtime.NumCPU(), model(), setting("kernel/osrelease"), setting("net/ipv4/tcp_congestion_control"), runtime.Version(), first(busiest), last(busiest))
	for _, p := range peers(os.Getenv("ENVOY")) {
		if len(p.version) > 0 && p.version[0] != "" {
			out, _ := exec.Command(p.version[0], p.version[1:]...).CombinedOutput() //nolint:gosec,noctx // the programs that are compared
			line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			d.printf("%s: %s. ", p.title, strings.TrimSpace(strings.TrimPrefix(line, p.version[0]+" ")))
		}
	}
	d.printf("\n\nIntegrity comes first; ours passed everything. ")
	for _, p := range peers("") {
		if f := failed[p.name]; len(f) > 0 {
			d.printf("%s failed: %s. ", p.title, strings.Join(f, "; "))
		}
	}
	d.printf("\n\n")
}

func first(v []string) string {
	if len(v) == 0 {
		return "?"
	}
	return v[0]
}

func last(v []string) string {
	if len(v) == 0 {
		return "?"
	}
	return v[len(v)-1]
}

func model() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // an unknown model is no failure
	_, rest, _ := strings.Cut(string(b), "model name\t: ")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// setting is one of the kernel's; an unknown one is no failure.
func setting(name string) string {
	b, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b))
}

func (d *document) table() {
	d.printf("Medians; in brackets half of the spread between the quartiles, and then the ratio to HAProxy (median of the ratios of the rounds).\n\n| |")
	ps := peers("")
	for _, p := range ps {
		d.printf(" %s |", p.title)
	}
	d.printf(" n |\n|---|%s---|\n", strings.Repeat("---|", len(ps)))
	for _, r := range rows() {
		d.printf("| %s |", r.title)
		n := 0
		for _, p := range ps {
			var v []float64
			for _, s := range d.all.of(r.load, p.name) {
				v = append(v, r.value(s))
			}
			m := median(v)
			if len(v) == 0 || m == 0 {
				d.printf(" – |")
				continue
			}
			n = max(n, len(v))
			slices.Sort(v)
			d.printf(" %s (±%.0f %%)", number(m), 50*(v[len(v)*3/4]-v[len(v)/4])/m)
			if x, n := d.all.ratio(r, p.name, "haproxy"); n > 0 && p.name != "haproxy" {
				d.printf(" **%.2f**", x)
			}
			d.printf(" |")
		}
		d.printf(" %d |\n", n)
	}
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// bound is what is demanded of a ratio of our epoll engine.
type bound struct {
	row     string
	load    string
	against string
	most    bool // the ratio is that at most, or else at least
	limit   float64
}

// enough rounds are needed for a ratio to say something.
const enough = 3

// floors must hold.
func floors() []bound {
	out := []bound{
		{"conn/s, thousands", "connections", "haproxy", false, 1},
		{"proxy CPU s / 10k conn", "connections", "haproxy", true, .95},
		{"GB/s, 16 streams", "bulk-16", "haproxy", false, 1.4},
		{"proxy CPU s / GB, 16 streams", "bulk-16", "haproxy", true, .45},
		{"GB/s, 16 streams", "bulk-16", "haproxy-splice", false, 1},
		{"idle, KB / connection", "idle", "haproxy", true, .25},
	}
	for _, r := range rows() {
		if r.title != "idle, descriptors / connection" {
			out = append(out, bound{r.title, r.load, "envoy", r.note == "", 1})
		}
	}
	return out
}

// aims are what is strived for; NOTES.md says what was tried where one is missed.
func aims() []bound {
	return []bound{
		{"conn/s, thousands", "connections", "haproxy", false, 1.05},
		{"conn/s, thousands", "connections", "nginx", false, 1.05},
		{"proxy CPU s / 10k conn", "connections", "haproxy", true, .90},
		{"proxy CPU s / 10k conn", "connections", "nginx", true, .95},
		{"all CPU s / 10k conn", "connections", "direct", true, 2.1},
		{"proxy CPU s / 10k TLS", "tls", "haproxy", true, .90},
		{"proxy CPU s / 10k TLS", "tls", "nginx", true, 1},
		{"GB/s, 1 stream", "bulk-1", "haproxy", false, 1.8},
		{"GB/s, 1 stream", "bulk-1", "haproxy-splice", false, 1},
		{"GB/s, 1 stream", "bulk-1", "haproxy-pipes", false, 1},
		{"GB/s, 1 stream", "bulk-1", "nginx", false, 1.35},
		{"GB/s, 16 streams", "bulk-16", "haproxy", false, 1.5},
		{"GB/s, 16 streams", "bulk-16", "haproxy-splice", false, 1.1},
		{"GB/s, 16 streams", "bulk-16", "haproxy-pipes", false, 1},
		{"GB/s, 16 streams", "bulk-16", "nginx", false, 1.3},
		{"GB/s, 16 streams", "bulk-16", "direct", false, .75},
		{"proxy CPU s / GB, 16 streams", "bulk-16", "haproxy", true, .35},
		{"proxy CPU s / GB, 16 streams", "bulk-16", "haproxy-splice", true, .9},
		{"proxy CPU s / GB, 16 streams", "bulk-16", "nginx", true, .5},
		{"64 B × 64, thousand requests/s", "messages", "haproxy", false, 1.02},
		{"64 B × 64, thousand requests/s", "messages", "nginx", false, 1.02},
		{"the same, proxy CPU s / 100k", "messages", "haproxy", true, .95},
		{"the same, proxy CPU s / 100k", "messages", "nginx", true, 1},
		{"the same, p99 µs", "messages", "haproxy", true, .95},
		{"the same, p99 µs", "messages", "nginx", true, 1},
		{"4,000 requests/s, proxy CPU s / 100k", "paced", "haproxy", true, .90},
		{"4,000 requests/s, proxy CPU s / 100k", "paced", "nginx", true, 1.1},
		{"idle, KB / connection", "idle", "haproxy", true, .20},
		{"idle, KB / connection", "idle", "nginx", true, .05},
	}
}

// bounds writes a table of them, and how many do not hold or were not measured
// often enough.
func (d *document) bounds(title, not string, bs []bound) (missed int) {
	d.printf("\n## %s\n\nRatios of the epoll engine, medians of the rounds.\n\n| | against | wanted | is | rounds | |\n|---|---|---|---|---|---|\n", title)
	for _, b := range bs {
		i := slices.IndexFunc(rows(), func(r row) bool { return r.title == b.row && r.load == b.load })
		x, n := d.all.ratio(rows()[i], "epoll", b.against)
		sign, holds := "≥", x >= b.limit
		if b.most {
			sign, holds = "≤", x <= b.limit
		}
		word := "holds"
		switch {
		case n < enough:
			word = "**not measured enough**"
		case !holds:
			word = "**" + not + "**"
		}
		if n < enough || !holds {
			missed++
		}
		d.printf("| %s (%s) | %s | %s %.2f | %.2f | %d | %s |\n", b.row, b.load, b.against, sign, b.limit, x, n, word)
	}
	return missed
}
