package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
)

// unproven also looks at what the loop is about to do: nobody is to be allowed
// a moment later either.
func (st *story) unproven(ctx context.Context) error {
	actions, err := st.admin.Plan(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(actions, func(a client.Action) bool { return a.Kind == "allow-principal" }); i >= 0 {
		return fmt.Errorf("nobody has proven anything, and %s is to be allowed: %s", actions[i].Target, actions[i].Why)
	}
	_, err = st.example.createEndpoint(ctx, st.places.networks["example-corp"], st.home)
	if code := awsCode(err); code != "InvalidServiceName" {
		return fmt.Errorf("AWS answers %s, want InvalidServiceName", got(err))
	}
	st.saw("AWS: %s", awsCode(err))
	return nil
}

func (st *story) proofs(ctx context.Context) error {
	if err := st.unbound(ctx); err != nil {
		return err
	}
	ch, err := st.example.api.CreateChallenge(ctx, "example-corp")
	if err != nil {
		return err
	}
	proof, err := st.example.proof(ctx, ch)
	if err != nil {
		return err
	}
	account, err := st.example.api.ProveAccount(ctx, proof)
	if err != nil {
		return err
	}
	if account.ID != st.example.account.ID {
		return fmt.Errorf("account %s was proven, want %s", account.ID, st.example.account.ID)
	}
	if _, err := st.example.api.ProveAccount(ctx, proof); !client.HasCode(err, "invalid") {
		return fmt.Errorf("the same proof again: %s, want it refused", got(err))
	}
	if err := st.stolen(ctx); err != nil {
		return err
	}
	st.saw("account %s of %s", account.ID, account.Status.PrincipalARN)
	return nil
}

// stolen is Example Corp's signature for its own challenge, handed in by Globex
// for one of Globex's.
func (st *story) stolen(ctx context.Context) error {
	own, err := st.example.api.CreateChallenge(ctx, "example-corp")
	if err != nil {
		return err
	}
	proof, err := st.example.proof(ctx, own)
	if err != nil {
		return err
	}
	theirs, err := st.globex.api.CreateChallenge(ctx, "globex")
	if err != nil {
		return err
	}
	proof.Organization, proof.Nonce = "globex", theirs.Nonce
	if _, err := st.globex.api.ProveAccount(ctx, proof); !client.HasCode(err, "invalid") {
		return fmt.Errorf("a proof bound to another organization: %s, want it refused", got(err))
	}
	return nil
}

// unbound is a GetCallerIdentity request as Example Corp signs it for others,
// to sign in to a secret store for instance: nothing in it says that it is for
// this platform. Globex got hold of it.
func (st *story) unbound(ctx context.Context) error {
	ch, err := st.globex.api.CreateChallenge(ctx, "globex")
	if err != nil {
		return err
	}
	region := ch.Regions[0]
	req, err := http.NewRequestWithContext(ctx, accountproof.Method, "https://"+accountproof.Host(region)+accountproof.Path, strings.NewReader(accountproof.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", accountproof.ContentType)
	keys, err := st.example.credentials().Retrieve(ctx)
	if err != nil {
		return err
	}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, accountproof.BodyHash(), accountproof.Service, region, time.Now().UTC()); err != nil {
		return err
	}
	proof := client.Proof{
		Organization: ch.Organization, Nonce: ch.Nonce, Region: region,
		Authorization: req.Header.Get("Authorization"), Date: req.Header.Get("X-Amz-Date"),
	}
	if _, err := st.globex.api.ProveAccount(ctx, proof); !client.HasCode(err, "invalid") {
		return fmt.Errorf("a request that was signed without the challenge: %s, want it refused", got(err))
	}
	return nil
}
