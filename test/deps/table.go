package deps

// Project returns the rules of this project. A new package gets a row here; a
// new import gets a line with its reason. The words are in
// docs/architecture.md.
func Project() Rules {
	return Rules{Rooms: projectRooms(), Tests: testLibraries(), Fences: projectFences(), Reserved: projectReserved()}
}

func projectRooms() []Room {
	rooms := []Room{
		{Path: own(""), Job: "the domain: types, rules, typed errors", Uses: []Use{
			{"golang.org/x/net/publicsuffix", "which hostnames a publicly trusted certificate is possible for"},
		}},
		{Path: own("client"), Job: "the Go client; owns the wire types of the API", Uses: []Use{domain}},
		{Path: own("client/accountproof"), Job: "signs the proof that an organization holds an AWS account", Uses: []Use{
			domain, wire, sdk,
		}},
		{Path: own("backend"), Job: "middleware for the vendor's apps", Uses: []Use{
			{own("internal/proxyproto"), "reads the header that ingress sends"},
		}},
		{Path: own("cmd/postern"), Job: "main: flags, signals, run", Uses: []Use{
			{own("internal/cli"), "the commands of customers and operators"},
			{own("internal/serve"), "the server's command"},
			{own("internal/sandbox"), "the sandbox's command"},
			{own("internal/localaws"), "the stand-in's command"},
		}},
		{Path: own("docs"), Job: "the tests that hold the documents to the code"},
		{Path: own("test/deps"), Job: "these rules"},
		{Path: own("bench/dataplane"), Job: "the data path beside other proxies, and under a flood", Uses: []Use{
			domain, meter,
			{own("internal/ingress"), "what is measured"},
			{own("internal/relay"), "what is measured"},
			{own("internal/proxyproto"), "the load balancer's header"},
			{"golang.org/x/sys", "a load that costs little"},
		}},
		{Path: own("test/e2e"), Job: "the parts of the end-to-end suites that are in Go"},
		{Path: own("test/loopback"), Job: "addresses of one test process alone"},
	}
	rooms = append(rooms, dataPlaneRooms()...)
	return append(rooms, controlPlaneRooms()...)
}

func dataPlaneRooms() []Room {
	return []Room{
		{Path: own("internal/proxyproto"), Job: "PROXY protocol v2, read and written", Uses: []Use{domain}},
		{Path: own("internal/clienthello"), Job: "the server name of a TLS ClientHello"},
		{Path: own("internal/relay"), Job: "the engine: accept, peek, dial, relay", Uses: []Use{
			domain,
			{own("internal/proxyproto"), "the header ahead of a connection"},
			{own("internal/clienthello"), "the server name in it"},
			{"golang.org/x/sys", "epoll and splice on Linux"},
		}},
		{Path: own("internal/sighting"), Job: "counts who arrived, within bounds", Uses: []Use{domain}},
		{Path: own("internal/accesslog"), Job: "writes what came and what became of it, at a rate, away from who moves bytes"},
		{Path: own("internal/ingress"), Job: "matches endpoints and server names to routes", Uses: []Use{
			domain,
			{own("internal/proxyproto"), "what goes ahead to the backend"},
			{own("internal/clienthello"), "the server name of an arrival"},
			{own("internal/relay"), "the engine that asks it"},
			{own("internal/sighting"), "its report"},
			{own("internal/accesslog"), "its access log"},
			meter,
		}},
		{Path: own("internal/scim"), Job: "the SCIM-only public ingress: ends TLS, judges requests, writes them anew", Uses: []Use{
			domain, meter,
			{own("internal/proxyproto"), "the header ahead of a connection to a backend"},
			{own("internal/sighting"), "its report"},
			{own("internal/accesslog"), "its access log"},
		}},
		{Path: own("internal/egress"), Job: "lets a tenant's workloads out to its own data connections", Uses: []Use{
			domain,
			{own("internal/clienthello"), "the server name of what goes out"},
			{own("internal/relay"), "the engine of transparent listeners"},
			{own("internal/sighting"), "its report"},
			{own("internal/accesslog"), "its access log"},
			meter,
			{"github.com/miekg/dns", "the names of a tenant's connections"},
			{"golang.org/x/net/netutil", "how many may ask them by TCP at one time"},
		}},
		{Path: own("internal/acme"), Job: "certificates of a door, obtained by ACME", Uses: []Use{
			{"github.com/caddyserver/certmagic", "ACME, with renewal and storage"},
			{"go.uber.org/zap", "certmagic's logger, which is told to be quiet"},
		}},
		{Path: own("internal/nodelink"), Job: "route tables down to the nodes, what they saw up", Uses: []Use{domain, wire}},
		{Path: own("internal/nameserver"), Job: "authoritative DNS for the platform's zones", Uses: []Use{
			domain, meter,
			{"github.com/miekg/dns", "messages and listeners"},
		}},
		{Path: own("internal/certcheck"), Job: "whether a customer's cluster is reached through an endpoint, with a certificate that counts", Uses: []Use{
			domain,
			{"golang.org/x/crypto/x509roots/fallback/bundle", "Mozilla's authorities with their constraints: what publicly trusted means"},
		}},
		{Path: own("internal/isolation"), Job: "asks backends for another host than the one admitted", Uses: []Use{
			domain,
			{own("internal/proxyproto"), "the header that ingress would send"},
		}},
	}
}

func controlPlaneRooms() []Room {
	return []Room{
		{Path: own("internal/strictyaml"), Job: "reads the files that people write, strictly and with lines", Uses: []Use{domain, yaml}},
		{Path: own("internal/platformfile"), Job: "the platform's file", Uses: []Use{domain, strict}},
		{Path: own("internal/plan"), Job: "pure planning, per object", Uses: []Use{domain}},
		{Path: own("internal/store"), Job: "what is acknowledged, in one schema over database/sql", Uses: []Use{
			domain,
			{"modernc.org/sqlite", "SQLite without cgo"},
			{"github.com/pressly/goose/v3", "migrations"},
		}},
		{Path: own("internal/api"), Job: "HTTP handlers, identity and authorization", Uses: []Use{
			domain, wire,
			{own("internal/store"), "what it answers from"},
			{own("internal/plan"), "what dry_run returns"},
			{own("internal/nodelink"), "the messages that it streams to nodes"},
			{"github.com/danielgtaylor/huma/v2", "OpenAPI 3.1 and RFC 9457 on net/http"},
		}},
		{Path: own("internal/control"), Job: "the loop: observe, plan, apply", Uses: []Use{
			domain,
			{own("internal/store"), "the desired state"},
			{own("internal/plan"), "what to do"},
		}},
		{Path: own("internal/aws"), Job: "the cloud adapter", Uses: []Use{
			domain, wire,
			{own("client/accountproof"), "the fixed parts of the request that it rebuilds"},
			sdk, smithy,
		}},
		{Path: own("internal/dnspublish"), Job: "what the zones' servers really answer", Uses: []Use{
			domain,
			{"github.com/miekg/dns", "queries to each server"},
		}},
		{Path: own("internal/hostproof"), Job: "asks public DNS for the proof of a hostname", Uses: []Use{
			{"github.com/miekg/dns", "queries to a recursive resolver"},
		}},
		{Path: own("internal/localaws"), Job: "the stand-in for AWS, with a real data path", Uses: []Use{
			domain, strict, sdk, smithy,
			{own("internal/proxyproto"), "the header that AWS sends"},
			{"github.com/miekg/dns", "the resolver of each VPC"},
			{"github.com/spf13/cobra", "its command"},
			{"golang.org/x/sys", "socket options that the standard library has no name for"},
		}},
		{Path: own("internal/cli"), Job: "commands for customers and operators, over the client", Uses: []Use{
			domain, wire,
			{own("client/accountproof"), "account prove"},
			{own("internal/platformfile"), "platform show and validate"},
			{"github.com/spf13/cobra", "commands"},
			{"github.com/mattn/go-isatty", "asks before a deletion only where somebody can answer"},
		}},
		{Path: own("internal/serve"), Job: "wires roles into one process", Uses: []Use{
			domain, wire, strict, meter,
			{own("internal/platformfile"), "the platform to serve"},
			{own("internal/store"), "role control"},
			{own("internal/plan"), "role control"},
			{own("internal/api"), "role control"},
			{own("internal/control"), "role control"},
			{own("internal/aws"), "role control"},
			{own("internal/relay"), "roles ingress and egress"},
			{own("internal/ingress"), "role ingress"},
			{own("internal/egress"), "role egress"},
			{own("internal/sighting"), "what both saw"},
			{own("internal/accesslog"), "the rate that their logs keep to by default"},
			{own("internal/scim"), "role ingress: the SCIM-only doors"},
			{own("internal/acme"), "role ingress: their certificates, unless they are in files"},
			{own("internal/nodelink"), "routes to the nodes, and what they saw back"},
			{own("internal/nameserver"), "role dns"},
			{own("internal/isolation"), "role ingress: whether its backends keep tenants apart"},
			{own("internal/dnspublish"), "what a cutover waits for"},
			{own("internal/hostproof"), "role control: who holds the hostname of a data connection"},
			{own("internal/certcheck"), "role egress: whether a cluster is reached, with a good certificate"},
			{"github.com/spf13/cobra", "its command"},
			{"golang.org/x/sys", "the lock on the state folder"},
		}},
		{Path: own("internal/sandbox"), Job: "the whole world on one machine", Uses: []Use{
			domain, wire, strict, sdk, smithy,
			{own("client/accountproof"), "a customer's proof"},
			{own("backend"), "the platform's apps"},
			{own("internal/serve"), "the product, as it is served"},
			{own("internal/localaws"), "the cloud"},
			{own("internal/platformfile"), "the platform"},
			{own("internal/proxyproto"), "forged headers, to see them refused"},
			{own("internal/certcheck"), "whom its world takes for a public authority"},
			{"github.com/trinodb/trino-go-client", "a workload's query, by Trino's own client"},
			{"github.com/miekg/dns", "queries, as a customer sends them"},
			{"github.com/spf13/cobra", "its command"},
		}},
	}
}

func testLibraries() []Use {
	return []Use{
		{"github.com/google/go-cmp", "differences that a person can read"},
		{"go.uber.org/goleak", "no goroutine is left"},
		{"pgregory.net/rapid", "properties"},
		{"github.com/rogpeppe/go-internal", "commands, as a user's session"},
		{"golang.org/x/net", "HTTP/2 by the frame, to send what no client does"},
		{"github.com/pires/go-proxyproto", "another reader of PROXY v2, to compare ours with"},
		{"github.com/miekg/dns", "real queries"},
		{"github.com/prometheus/client_golang", "registries to look into"},
		{"github.com/trinodb/trino-go-client", "a customer's query, by Trino's own client"},
		{"github.com/aws/aws-sdk-go-v2", "the stand-in, driven as a customer drives AWS"},
		{"github.com/aws/smithy-go", "the error codes that AWS's client tells"},
	}
}

func projectFences() []Fence {
	dataPlane := owns("internal/proxyproto", "internal/clienthello", "internal/relay", "internal/sighting", "internal/accesslog", "internal/ingress", "internal/egress", "internal/scim")
	return []Fence{
		{
			From:  owns(""),
			Never: []string{"net", "net/http", "os", "os/exec", "database/sql", "log", "log/slog", "math/rand", "math/rand/v2", own("internal")},
			Why:   "the domain opens no socket or file, knows no database and logs nothing",
		},
		{
			From:  dataPlane,
			Never: owns("internal/store", "internal/plan", "internal/api", "internal/aws", "internal/control", "internal/localaws", "internal/cli", "client"),
			Why:   "a node serves what it last knew with the control plane gone, and cannot reach past its routes",
		},
		{
			From:  owns("internal/nodelink", "internal/nameserver", "internal/isolation", "internal/dnspublish", "internal/acme", "internal/certcheck", "internal/hostproof"),
			Never: owns("internal/store", "internal/plan", "internal/api", "internal/aws", "internal/control", "internal/localaws", "internal/cli"),
			Why:   "what a node runs, or a customer's resolver asks, has no way to the state or the cloud",
		},
		{
			From:  owns("internal/plan"),
			Never: []string{"net", "net/http", "os", "database/sql", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", own("internal")},
			Why:   "plans are pure functions; the clock is an argument",
		},
		{
			From:  owns("internal/cli"),
			Never: owns("internal/serve", "internal/sandbox", "internal/api", "internal/store", "internal/plan", "internal/control", "internal/aws", "internal/localaws", "internal/ingress", "internal/relay"),
			Why:   "what the command line can do, any client of the API can",
		},
		{
			From:  owns("client"),
			Never: []string{own("internal"), own("backend")},
			Why:   "a public package stands alone",
		},
		{
			From:  owns("internal/localaws"),
			Never: owns("client", "internal/store", "internal/plan", "internal/api", "internal/control", "internal/aws", "internal/ingress", "internal/relay", "internal/platformfile"),
			Why:   "the stand-in knows AWS and nothing of the product, or it would agree with the product's mistakes",
		},
		{
			From:  owns("internal/api"),
			Never: owns("internal/aws", "internal/control", "internal/localaws"),
			Why:   "handlers write what is desired; only the loop acts on the cloud",
		},
		{
			From:  owns("internal/store"),
			Never: append(owns("client", "internal/plan", "internal/api", "internal/control", "internal/aws"), "net/http"),
			Why:   "the store keeps things and decides nothing",
		},
		{
			From: append(owns(
				"client", "backend", "internal/cli", "internal/api", "internal/store", "internal/plan", "internal/control",
				"internal/aws", "internal/localaws", "internal/platformfile", "internal/strictyaml",
				"internal/nodelink", "internal/nameserver", "internal/isolation", "internal/dnspublish", "internal/acme", "internal/hostproof",
			), dataPlane...),
			Never: owns("internal/serve", "internal/sandbox"),
			Why:   "only the processes' entrances see everything",
		},
	}
}

func projectReserved() []Reserved {
	return []Reserved{
		{
			Path: "github.com/aws/aws-sdk-go-v2",
			For:  owns("internal/aws", "internal/localaws", "client/accountproof", "internal/sandbox"),
			Why:  "one adapter speaks to the cloud; the others sign a proof or play the cloud and its customers",
		},
		{Path: "github.com/goccy/go-yaml", For: owns("internal/strictyaml"), Why: "one package guards the YAML library, which panics at some files"},
		{Path: "database/sql", For: owns("internal/store", "internal/sandbox"), Why: "one package knows the schema; the sandbox queries clusters, as a workload does"},
		{Path: "os/exec", For: owns("internal/sandbox", "cmd/postern", "bench/dataplane"), Why: "the product runs no other program"},
	}
}
