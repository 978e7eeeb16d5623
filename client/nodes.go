package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Node is a data-plane process that registered itself.
type Node struct {
	ID              string     `json:"id" doc:"The name of its token" example:"ingress-1"`
	Status          NodeStatus `json:"status"`
	ResourceVersion string     `json:"resource_version"`
}

// NodeStatus is what a node said last, and whether it is waited for.
type NodeStatus struct {
	State           string    `json:"state" enum:"ready,behind,silent,fenced" doc:"ready: heard of lately and up to date; behind: heard of lately; silent: not heard of, it may still serve what it last knew; fenced: not waited for, it refuses everything"`
	Regions         []string  `json:"regions" doc:"Whose doors it is"`
	Version         string    `json:"version"`
	BootID          string    `json:"boot_id" doc:"New with each start of the process"`
	AppliedRevision int64     `json:"applied_revision" doc:"Of the route table in force there; 0: none, it refuses everything"`
	CurrentRevision int64     `json:"current_revision" doc:"Of the route table that should be"`
	RegisteredAt    time.Time `json:"registered_at"`
	LastSeen        time.Time `json:"last_seen"`
	Fenced          bool      `json:"fenced"`
	FencedBy        string    `json:"fenced_by,omitempty"`
	FencedAt        time.Time `json:"fenced_at,omitzero"`
}

// NodeRegistration is how a node introduces itself. Keys of newer nodes that
// the server does not know are ignored.
type NodeRegistration struct {
	_               struct{} `json:"-" additionalProperties:"true"` // read by the API's framework
	ID              string   `json:"id" doc:"Must be the token's name" maxLength:"63"`
	Regions         []string `json:"regions" maxItems:"100" nullable:"false"`
	EgressRegions   []string `json:"egress_regions" required:"false" maxItems:"100" doc:"Those of them whose egress it is; null or left out: it may be all of them's"`
	Version         string   `json:"version" maxLength:"100"`
	BootID          string   `json:"boot_id" minLength:"8" maxLength:"64" doc:"Drawn when the process started"`
	AppliedRevision int64    `json:"applied_revision" minimum:"0" doc:"In force already, from the node's disk"`
	AppliedSum      string   `json:"applied_sum,omitempty" maxLength:"64" doc:"Checksum of that table; one that the control plane did not make counts as none"`
}

// NodeReport is what a node saw since its last one. It is sent unchanged until
// it was taken; the server takes each number of a boot once. Keys of newer
// nodes that the server does not know are ignored.
type NodeReport struct {
	_               struct{}  `json:"-" additionalProperties:"true"` // read by the API's framework
	ID              string    `json:"id" doc:"Must be the token's name" maxLength:"63"`
	BootID          string    `json:"boot_id" minLength:"8" maxLength:"64"`
	Seq             int64     `json:"seq" minimum:"1" doc:"Counts this boot's reports from 1"`
	AppliedRevision int64     `json:"applied_revision" minimum:"0" doc:"In force and on the node's disk"`
	AppliedSum      string    `json:"applied_sum,omitempty" maxLength:"64" doc:"Checksum of that table; one that the control plane did not make counts as none"`
	SentAt          time.Time `json:"sent_at,omitzero" doc:"By the node's clock, of this attempt: the times of the arrivals are put right by it"`
	Arrivals        []Arrival `json:"arrivals,omitempty" maxItems:"2000"`
}

// Arrival is how often connections of one kind arrived at a node.
type Arrival struct {
	_             struct{}  `json:"-" additionalProperties:"true"` // read by the API's framework
	Region        string    `json:"region"`
	Listener      string    `json:"listener" enum:"private,public,scim,connect,transparent"`
	VPCEndpointID string    `json:"vpc_endpoint_id,omitempty"`
	Source        string    `json:"source,omitempty" doc:"Client address; not of the private listener"`
	ServerName    string    `json:"server_name,omitempty"`
	Reason        string    `json:"reason,omitempty" doc:"Why it was refused; left out: it was admitted"`
	Organization  string    `json:"organization,omitempty"`
	Count         int64     `json:"count" minimum:"0" doc:"Connections that were opened or refused; 0: one that was opened before is still there"`
	FirstSeen     time.Time `json:"first_seen"`
	LastSeen      time.Time `json:"last_seen"`
	JA4           string    `json:"ja4,omitempty" doc:"Fingerprint of one of the clients' TLS, a hint"`
}

// BackendReport is what a node found when it asked its backends for another
// host than was admitted.
type BackendReport struct {
	ID       string           `json:"id" doc:"Must be the token's name" maxLength:"63"`
	Backends []BackendFinding `json:"backends" maxItems:"2000"`
}

// BackendFinding is what one backend answered.
type BackendFinding struct {
	Address  string `json:"address" doc:"With its port" maxLength:"64"`
	Isolated bool   `json:"isolated" doc:"It answered 421"`
	Detail   string `json:"detail" maxLength:"1000"`
}

// ClusterReport is what an egress node found when it looked at the clusters of
// data connections.
type ClusterReport struct {
	_        struct{}      `json:"-" additionalProperties:"true"` // read by the API's framework
	ID       string        `json:"id" doc:"Must be the token's name" maxLength:"63"`
	SentAt   time.Time     `json:"sent_at" doc:"By the node's clock, of this attempt: the times of the looks are put right by it"`
	Clusters []ClusterLook `json:"clusters" maxItems:"500" nullable:"false"`
}

// ClusterLook is what a look at one cluster found; without a finding that is no
// warning it is good. One that could not look is not sent.
type ClusterLook struct {
	ConnectionID string           `json:"connection_id" maxLength:"64"`
	Of           string           `json:"of" doc:"Sum of the check in the route table that was made" maxLength:"64"`
	Asked        time.Time        `json:"asked,omitzero" doc:"Of that check"`
	LookedAt     time.Time        `json:"looked_at" doc:"When the look began"`
	Findings     []ClusterFinding `json:"findings,omitempty" maxItems:"32"`
}

// ClusterFinding is something that is wrong with a cluster, or may soon be.
type ClusterFinding struct {
	Reason  string `json:"reason" maxLength:"64"`
	Warning bool   `json:"warning,omitempty" doc:"It works today"`
	Message string `json:"message" maxLength:"1000"`
}

// Nodes lists the registered nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return listAll[Node](ctx, c, "/v1/nodes", nil)
}

// Node gets one.
func (c *Client) Node(ctx context.Context, id string) (Node, error) {
	return get[Node](ctx, c, nodePath(id), nil)
}

// FenceNode stops waiting for a node. The caller asserts that no traffic
// reaches it: it is out of its target group and past its drain.
func (c *Client) FenceNode(ctx context.Context, id string) (Node, error) {
	return post[Node](ctx, c, nodePath(id)+"/fence", nil, nil)
}

// UnfenceNode lets a node serve again, and waits for it again.
func (c *Client) UnfenceNode(ctx context.Context, id string) (Node, error) {
	return post[Node](ctx, c, nodePath(id)+"/unfence", nil, nil)
}

// DeleteNode forgets a fenced node.
func (c *Client) DeleteNode(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, nodePath(id), nil, nil, nil)
}

func nodePath(id string) string { return "/v1/nodes/" + url.PathEscape(id) }

// RegisterNode introduces a node; for nodes.
func (c *Client) RegisterNode(ctx context.Context, r NodeRegistration) (Node, error) {
	return post[Node](ctx, c, "/v1/nodelink/registrations", nil, r)
}

// ReportNode sends a report; for nodes.
func (c *Client) ReportNode(ctx context.Context, r NodeReport) error {
	return c.call(ctx, http.MethodPost, "/v1/nodelink/reports", nil, r, nil)
}

// ReportBackends sends what the backends answered; for nodes.
func (c *Client) ReportBackends(ctx context.Context, r BackendReport) error {
	return c.call(ctx, http.MethodPost, "/v1/nodelink/backends", nil, r, nil)
}

// ReportClusters sends what looks at clusters found; for egress nodes.
func (c *Client) ReportClusters(ctx context.Context, r ClusterReport) error {
	return c.call(ctx, http.MethodPost, "/v1/nodelink/clusters", nil, r, nil)
}

// maxRouteMessage bounds one message of the stream of routes, in bytes.
const maxRouteMessage = 64 << 20

// WatchRoutes calls each for every message of a registered node's stream of
// routes, a JSON document, until ctx ends, each returns an error, or the stream
// breaks; it returns that error, io.EOF where the server ended the stream.
// have is the revision that the node has, 0 for none. The message is valid
// until each returns.
func (c *Client) WatchRoutes(ctx context.Context, bootID string, have int64, each func(message []byte) error) error {
	q := query("boot_id", bootID, "have", strconv.FormatInt(have, 10))
	resp, err := c.send(ctx, http.MethodGet, "/v1/nodelink/routes", q, http.Header{"Accept": {"application/x-ndjson"}}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return problemOf(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxRouteMessage)
	lines.Split(wholeLines)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	return io.EOF
}

// wholeLines is bufio.ScanLines without a last line that was cut off.
func wholeLines(data []byte, _ bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

// Concerns tells whether err is a refusal with a code that names a field.
func Concerns(err error, code, field string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code() == code &&
		slices.ContainsFunc(e.Errors, func(f FieldProblem) bool { return f.Field == field })
}
