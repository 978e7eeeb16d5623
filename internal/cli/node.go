package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) node() *cobra.Command {
	return group("node", "Look at the data plane's nodes, and fence them",
		`A node is an ingress process that registered itself. It obeys the route table that the control plane sends
it, and goes on with the last one when the control plane is gone. So a tenant's public access ends only
when every node has acknowledged that; a node that cannot is waited for until it is fenced.`,
		"  postern node list\n  postern node fence ingress-2",
		a.nodeList(), a.nodeShow(), a.nodeFence(), a.nodeUnfence(), a.nodeRemove())
}

func (a *app) nodeList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List nodes", Args: takes(),
		Long: `List prints the registered nodes.

States: ready (heard of lately, with the current route table), behind (heard of lately, with an earlier
one), silent (not heard of for 15 seconds; it may still serve what it last knew), fenced (not waited for;
it refuses everything as soon as it hears of it).`,
		Example: "  postern node list",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			ns, err := s.Nodes(ctx)
			if err != nil {
				return err
			}
			return printList(a, ns, "no node", []string{"NODE", "STATE", "REVISION", "VERSION", "REGIONS", "LAST SEEN"}, func(n client.Node) []string {
				return []string{n.ID, n.Status.State, revisions(n), n.Status.Version, comma(n.Status.Regions), at(n.Status.LastSeen)}
			})
		}),
	}
}

func (a *app) nodeShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NODE", Short: "Show a node", Args: takes("NODE"),
		Long: `Show prints one node: what it has in force, when it was heard of last, and who fenced it if somebody did.
The states are those of "postern node list".`,
		Example: "  postern node show ingress-2",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			n, err := s.Node(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(n, func() string { return nodeText(n) })
		}),
	}
}

func (a *app) nodeFence() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "fence NODE", Short: "Stop waiting for a node that no traffic reaches", Args: takes("NODE"),
		Long: `Fence says that a node is not waited for any more. With it you assert what Postern cannot see: the node is
out of every target group, no public address leads to it, and its drain is past. Nothing checks that. A
fenced node that still gets traffic may let somebody in by an earlier route table, for as long as it does
not hear of the fence.

A node that hears of it cuts its connections, refuses everything, forgets the table that it kept, and does
so after a restart too, until it is unfenced. You are asked first.`,
		Example: "  postern node fence ingress-2\n  postern node fence ingress-2 --yes",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			n, err := within(ctx, s, func(ctx context.Context) (client.Node, error) { return s.Node(ctx, args[0]) })
			if err != nil {
				return err
			}
			if !n.Status.Fenced {
				if err := a.confirm(yes, fmt.Sprintf("node %s is %s, last heard of at %s: fencing it asserts that it is out of its target groups and past its drain",
					n.ID, n.Status.State, at(n.Status.LastSeen))); err != nil {
					return err
				}
			}
			n, err = within(ctx, s, func(ctx context.Context) (client.Node, error) { return s.FenceNode(ctx, n.ID) })
			if err != nil {
				return err
			}
			return a.print(n, func() string { return nodeText(n) })
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) nodeUnfence() *cobra.Command {
	return &cobra.Command{
		Use: "unfence NODE", Short: "Let a node serve again", Args: takes("NODE"),
		Long: `Unfence ends a fence. The node must run and be linked, so that it was told of the fence and has forgotten
the routes of before; it registers again within seconds, gets the current route table, and is waited for
again. Put it back into its target group when "postern node show" says that it is ready.`,
		Example: "  postern node unfence ingress-2",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			n, err := s.UnfenceNode(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(n, func() string { return nodeText(n) })
		}),
	}
}

func (a *app) nodeRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE", Short: "Forget a fenced node", Args: takes("NODE"),
		Long: `Remove forgets a node that is gone for good. It must be fenced. A process that still runs registers again
as a new node as long as its token is good: revoke that first (postern token revoke), but not before the
node was told of its fence (postern node list): one whose token is revoked hears nothing more, and goes on with
the routes it has.`,
		Example: "  postern node fence ingress-2\n  postern node remove ingress-2",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			if err := s.DeleteNode(ctx, args[0]); err != nil {
				return err
			}
			return a.done("node %s is removed", args[0])
		}),
	}
}

// revisions tells what a node has in force and, where that is not all, what it
// should have.
func revisions(n client.Node) string {
	applied, current := strconv.FormatInt(n.Status.AppliedRevision, 10), strconv.FormatInt(n.Status.CurrentRevision, 10)
	if applied == current {
		return applied
	}
	return applied + " of " + current
}

func nodeText(n client.Node) string {
	var b block
	b.add("Node", n.ID)
	b.add("State", n.Status.State)
	b.add("Revision", revisions(n))
	b.add("Version", n.Status.Version)
	b.add("Regions", n.Status.Regions...)
	b.add("Registered", at(n.Status.RegisteredAt))
	b.add("Last seen", at(n.Status.LastSeen))
	b.add("Fenced by", n.Status.FencedBy)
	b.add("Fenced at", at(n.Status.FencedAt))
	return b.text()
}
