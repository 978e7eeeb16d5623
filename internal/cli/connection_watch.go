package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postern-net/postern/client"
)

// verifyPatience is how long a look that was asked for may take: public DNS and a
// cluster that does not answer have timeouts of their own.
const verifyPatience = 2 * time.Minute

// connectionWatch follows one data connection.
type connectionWatch struct {
	session
	patience time.Duration
	away     bool // the API was, when it was asked last
}

// follow tells what a connection waits for as that changes, until it is ready,
// with no error, or comes to rest elsewhere.
func (w *connectionWatch) follow(ctx context.Context, c client.DataConnection) (client.DataConnection, error) {
	var told string
	err := w.until(ctx, &c, func() (done bool, err error) {
		now := c.Spec.Hostname + ": " + c.Status.State
		if what := connectionWaits(c); what != "" && c.Status.State != stateReady {
			now += ": " + what
		}
		if now != told {
			told = now
			if err := w.app.note("%s", now); err != nil {
				return true, err
			}
		}
		switch c.Status.State {
		case stateReady:
			return true, nil
		case "failed", "degraded", stateRemoving:
			return true, fmt.Errorf("%s is %s: %s", c.Spec.Hostname, c.Status.State, connectionWaits(c))
		}
		return false, nil
	})
	if errors.Is(err, errPatience) {
		err = fmt.Errorf("%s is still %s after %s: %s", c.Spec.Hostname, c.Status.State, w.patience, connectionWaits(c))
	}
	return c, err
}

// verified waits until the look has happened that was asked for.
func (w *connectionWatch) verified(ctx context.Context, c client.DataConnection) (client.DataConnection, error) {
	asked := c.Status.VerifyAsked
	err := w.until(ctx, &c, func() (bool, error) { return !c.Status.CheckedAt.Before(asked), nil })
	if errors.Is(err, errPatience) {
		err = fmt.Errorf("%s was not looked at within %s; postern connections show %s tells how it is", c.Spec.Hostname, w.patience, c.ID)
	}
	return c, err
}

// gone waits until there is no such connection any more.
func (w *connectionWatch) gone(ctx context.Context, c client.DataConnection) error {
	err := w.until(ctx, &c, func() (bool, error) { return false, nil })
	switch {
	case client.HasCode(err, "not_found"):
		return nil
	case errors.Is(err, errPatience):
		return fmt.Errorf("%s is still %s after %s: %s", c.ID, c.Status.State, w.patience, connectionWaits(c))
	}
	return err
}

var errPatience = errors.New("it took too long")

// until looks at a connection again and again until done says so, the API
// refuses, or patience is at its end. That the API is away for a while does not
// end it.
func (w *connectionWatch) until(ctx context.Context, c *client.DataConnection, done func() (bool, error)) error {
	deadline := time.NewTimer(w.patience)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return errPatience
		case <-tick.C:
		}
		if err := w.look(ctx, c); err != nil {
			return err
		}
	}
}

// look gets the connection anew. An error ends the wait.
func (w *connectionWatch) look(ctx context.Context, c *client.DataConnection) error {
	next, err := within(ctx, w.session, func(ctx context.Context) (client.DataConnection, error) { return w.DataConnection(ctx, c.ID) })
	var refused *client.Error
	switch {
	case err == nil:
		*c, w.away = next, false
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &refused) && refused.Status < 500 && !client.HasCode(err, "throttled"):
		return err // it is gone, or the token was revoked
	case w.away:
		return nil
	}
	w.away = true
	call := apiError{address: w.app.or(w.app.settings.api, "POSTERN_API"), timeout: w.app.settings.timeout, cause: err}
	return w.app.note("%s; still waiting", strings.ReplaceAll(explain(ctx, &call), "\n", "; "))
}

// connectionWaits is the message of the first condition that does not hold; the
// API gives them in the order in which they come to.
func connectionWaits(c client.DataConnection) string {
	for _, cond := range c.Status.Conditions {
		if cond.Status != "True" {
			return cond.Message
		}
	}
	return ""
}
