package certcheck

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/postern-net/postern"
)

// maxInfo bounds the answer to /v1/info, with its headers, which is some
// hundred bytes.
const maxInfo = 64 << 10

// info is what Trino says of itself (io.trino.client.ServerInfo).
type info struct {
	NodeVersion *struct {
		Version string `json:"version"`
	} `json:"nodeVersion"`
	Coordinator *bool `json:"coordinator"`
	Starting    *bool `json:"starting"`
}

// askTrino asks a coordinator how it is, over a connection whose certificate
// is good. It returns nil if it is one, and ready.
func askTrino(ctx context.Context, conn io.ReadWriter, hostname string) *postern.Finding {
	req := (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: hostname, Path: "/v1/info"}, Host: hostname,
		Header: http.Header{"User-Agent": {"postern"}, "Accept": {"application/json"}}, Close: true,
	}).WithContext(ctx)
	none := func(what string) *postern.Finding {
		return &postern.Finding{Reason: postern.ReasonNotTrino, Message: what + "; give the port of the coordinator, and check what is in front of it"}
	}
	if err := req.Write(conn); err != nil {
		return none("the port speaks TLS but takes no HTTP request")
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxInfo)), req)
	if err != nil {
		return none("the port speaks TLS but not HTTP")
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	var i info
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		f := none(fmt.Sprintf("/v1/info answers %d, so it cannot be told whether this is Trino; if it is, nothing needs to be done", res.StatusCode))
		f.Warning = true
		return f
	case res.StatusCode != http.StatusOK:
		return none(fmt.Sprintf("/v1/info answers %d, which no Trino coordinator does", res.StatusCode))
	case err != nil || json.Unmarshal(body, &i) != nil || i.NodeVersion == nil || i.NodeVersion.Version == "":
		return none("/v1/info does not answer as Trino does")
	case i.Coordinator != nil && !*i.Coordinator:
		return none("a Trino worker answers, not the coordinator")
	case i.Starting != nil && *i.Starting:
		return &postern.Finding{Reason: postern.ReasonClusterStarting, Message: "Trino is starting; wait, it is asked again"}
	}
	return nil
}
