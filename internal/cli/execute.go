package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Execute runs a command that [New] made and returns the exit status. Errors
// go to the command's standard error, one line a problem.
func Execute(ctx context.Context, root *cobra.Command) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	status := exitFailed
	var usage *usageError
	if errors.As(err, &usage) {
		status = exitUsage
	}
	var b strings.Builder
	for line := range strings.SplitSeq(explain(ctx, err), "\n") {
		if line = strings.TrimSpace(clean(line)); line != "" {
			b.WriteString("postern: " + line + "\n")
		}
	}
	_, _ = io.WriteString(root.ErrOrStderr(), b.String()) // the status tells it too
	return status
}

// apiError is a call that failed, and of which API.
type apiError struct {
	address string
	timeout time.Duration
	cause   error
}

func (e *apiError) Error() string { return e.cause.Error() }
func (e *apiError) Unwrap() error { return e.cause }

// explain says an error in words of the one who typed the command.
func explain(ctx context.Context, err error) string {
	var usage *usageError
	var refused *client.Error
	var call *apiError
	switch {
	case errors.As(err, &usage):
		return usage.Error()
	case ctx.Err() != nil:
		return "interrupted"
	case errors.As(err, &refused):
		s := err.Error()                                      // with what was put before it, such as an endpoint's ID
		if refused.RequestID != "" && refused.Status >= 500 { // what only the operator's log explains
			s += " (request " + refused.RequestID + ")"
		}
		return s
	case errors.As(err, &call):
		return call.explain()
	}
	return err.Error()
}

func (e *apiError) explain() string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var dial *url.Error
	switch {
	case errors.As(e.cause, &syntax), errors.As(e.cause, &kind):
		return "the server at " + e.address + " does not answer as Postern's API does; check the address"
	case errors.Is(e.cause, context.DeadlineExceeded), isTimeout(e.cause):
		return fmt.Sprintf("the API at %s did not answer within %s; try again, or with a longer --timeout", e.address, e.timeout)
	case errors.As(e.cause, &dial), errors.Is(e.cause, io.ErrUnexpectedEOF):
		why, what := reason(e.cause)
		return "cannot reach the API at " + e.address + ": " + why + "; " + what
	}
	return e.cause.Error()
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// reason names what stands between here and a server, and what to do.
func reason(err error) (why, what string) {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "is it running?"
	case errors.As(err, &dns):
		return "no such host: " + dns.Name, "check the address and your DNS"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it", "check the network"
	case errors.As(err, &unknown):
		return "its certificate is signed by an unknown authority", "give the authority's certificate with --ca-file"
	case errors.As(err, &host):
		return "its certificate is for another name", "check the address"
	case errors.As(err, &invalid):
		return "its certificate is not valid (" + invalid.Error() + ")", "check this machine's clock, then ask the operator"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS there", "check the address, its port, and http or https"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection was cut", "try again"
	}
	return plain(err), "check the address and the network"
}

// plain is an error without the call that failed.
func plain(err error) string {
	var call *url.Error
	var path *fs.PathError
	var op *net.OpError
	switch {
	case errors.As(err, &path):
		return path.Err.Error()
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.As(err, &call):
		return call.Err.Error()
	}
	return err.Error()
}
