//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// peer is a proxy that is measured.
type peer struct {
	name    string
	title   string
	port    uint16
	command func(p peer, dir string) ([]string, error)
	version []string // prints its version
	ours    bool
	process *os.Process
	gone    chan struct{} // closed when the process has ended
}

func (p peer) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.port)
}

// peers are in the order of the tables. The first one is no proxy at all.
func peers(envoy string) []*peer {
	self, _ := os.Executable() // it runs: it is there
	ours := func(p peer, dir string) ([]string, error) {
		return []string{self, "proxy", "-engine", p.name, "-listen", p.addr().String(), "-log", filepath.Join(dir, p.name+".log")}, nil
	}
	return []*peer{
		{name: "direct", title: "direct"},
		{name: "haproxy", title: "HAProxy", port: 7001, command: haproxy("", ""), version: []string{"haproxy", "-v"}},
		{name: "haproxy-splice", title: "HAProxy, splice forced", port: 7002, command: haproxy("", forced)},
		{name: "haproxy-pipes", title: "HAProxy, splice forced, pipes of 1 MB", port: 7007, command: haproxy("  tune.pipesize 1048576\n", forced)},
		{name: "nginx", title: "nginx", port: 7003, command: nginx, version: []string{"nginx", "-v"}},
		{name: "envoy", title: "Envoy", port: 7004, command: envoyCommand(envoy), version: []string{envoy, "--version"}},
		{name: "goroutine", title: "Postern, goroutines", port: 7005, command: ours, ours: true},
		{name: "epoll", title: "Postern, epoll", port: 7006, command: ours, ours: true},
	}
}

// start runs a proxy until stop.
func (p *peer) start(ctx context.Context, dir string) error {
	if p.command == nil {
		return nil
	}
	args, err := p.command(*p, dir)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, p.name+".out"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the programs that are compared
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	p.process, p.gone = cmd.Process, gone
	go func() {
		_ = cmd.Wait() // it is killed
		close(gone)
	}()
	return nil
}

func write(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// forced has HAProxy splice whatever it can.
const forced = "  option splice-request\n  option splice-response\n"

// haproxy: threads as there are processors, the lookup in a map, which is its
// fastest, and a PROXY header of version 2 to the backend. 2.6 cannot read the
// endpoint's ID out of the header (2.9 can), so it does without. Its pipes are as
// large as the kernel makes them, 64 KB, unless tuned to the size of ours.
func haproxy(tune, more string) func(peer, string) ([]string, error) {
	return func(p peer, dir string) ([]string, error) {
		var hosts, sections strings.Builder
		for _, s := range services() {
			for i := range backends {
				fmt.Fprintf(&hosts, "%s %s-%d\n", s.host(i), s.name, i)
				fmt.Fprintf(&sections, "backend %s-%d\n%s  server s %s send-proxy-v2\n", s.name, i, more, s.backend(i))
			}
		}
		for i := range otherHosts {
			fmt.Fprintf(&hosts, "%s short-%d\n", otherHost(i), i%backends)
		}
		table, err := write(dir, p.name+".map", hosts.String())
		if err != nil {
			return nil, err
		}
		config, err := write(dir, p.name+".cfg", fmt.Sprintf(`global
  nbthread 2
  maxconn 9200
  maxpipes 200
%sdefaults
  mode tcp
  timeout connect 3s
  timeout client 350s
  timeout server 350s
  timeout client-fin 350s
  timeout tunnel 350s
frontend f
  bind %s accept-proxy backlog 16384
%s  tcp-request inspect-delay 5s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend %%[req_ssl_sni,lower,map(%s)]
%s`, tune, p.addr(), more, table, sections.String()))
		return []string{"haproxy", "-db", "-f", config}, err
	}
}

// nginx: a worker for each processor, each with a socket of its own
// (reuseport), its access log off. It can send version 1 of the PROXY protocol
// only, and reads the endpoint's ID in its commercial edition only.
func nginx(p peer, dir string) ([]string, error) {
	var hosts strings.Builder
	for _, s := range services() {
		for i := range backends {
			fmt.Fprintf(&hosts, "    %s %s;\n", s.host(i), s.backend(i))
		}
	}
	for i := range otherHosts {
		fmt.Fprintf(&hosts, "    %s %s;\n", otherHost(i), short.backend(i))
	}
	config, err := write(dir, "nginx.conf", fmt.Sprintf(`load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.err;
events { worker_connections 20000; multi_accept on; }
stream {
  map_hash_bucket_size 128;
  map_hash_max_size 8192;
  map $ssl_preread_server_name $to {
%[2]s  }
  server {
    listen %[3]s proxy_protocol reuseport backlog=16384;
    ssl_preread on;
    preread_timeout 5s;
    tcp_nodelay on;
    proxy_connect_timeout 3s;
    proxy_timeout 350s;
    proxy_buffer_size 32k;
    proxy_protocol on;
    proxy_pass $to;
  }
}
`, dir, hosts.String(), p.addr()))
	return []string{"nginx", "-c", config, "-p", dir}, err
}

// envoyCommand: the full job. The listener filters read the header with the
// endpoint's ID and the server name; role-based access control admits that ID
// with those names; a filter chain for each leads to its cluster, with a PROXY
// header of version 2.
func envoyCommand(program string) func(peer, string) ([]string, error) {
	return func(p peer, dir string) ([]string, error) {
		if program == "" {
			return nil, os.ErrNotExist
		}
		var chains, clusters strings.Builder
		for _, s := range services() {
			for i := range backends {
				fmt.Fprintf(&chains, envoyChain, s.host(i), endpointID, s.host(i), s.name, i)
				fmt.Fprintf(&clusters, envoyCluster, s.name, i, s.backend(i).Addr(), s.port)
			}
		}
		config, err := write(dir, "envoy.yaml", fmt.Sprintf(envoyConfig, p.port, chains.String(), clusters.String()))
		return []string{program, "-c", config, "--concurrency", "2", "-l", "error", "--disable-hot-restart"}, err
	}
}

const envoyConfig = `static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    tcp_backlog_size: 16384
    per_connection_buffer_limit_bytes: 262144
    listener_filters_timeout: 5s
    listener_filters:
    - name: envoy.filters.listener.proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
        rules: [{tlv_type: 0xEA, on_tlv_present: {key: endpoint}}]
    - name: envoy.filters.listener.tls_inspector
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
    filter_chains:
%s  clusters:
%s`

const envoyChain = `    - filter_chain_match: {server_names: [%q]}
      filters:
      - name: envoy.filters.network.rbac
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC
          stat_prefix: r
          rules:
            action: ALLOW
            policies:
              granted:
                principals: [{metadata: {filter: envoy.filters.listener.proxy_protocol, path: [{key: endpoint}], value: {string_match: {contains: %q}}}}]
                permissions: [{requested_server_name: {exact: %q}}]
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: t
          idle_timeout: 350s
          cluster: %s-%d
`

const envoyCluster = `  - name: %[1]s-%[2]d
    type: STATIC
    connect_timeout: 3s
    per_connection_buffer_limit_bytes: 262144
    circuit_breakers: {thresholds: [{max_connections: 40000, max_pending_requests: 40000}]}
    transport_socket:
      name: envoy.transport_sockets.upstream_proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
        config: {version: V2}
        transport_socket:
          name: envoy.transport_sockets.raw_buffer
          typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}
    load_assignment:
      cluster_name: %[1]s-%[2]d
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %[3]s, port_value: %[4]d}}}}]}]
`
