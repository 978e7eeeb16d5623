// Package accountproof signs the proof that its caller holds an AWS account:
// an STS GetCallerIdentity request, bound by a signed header to one platform,
// one organization and one challenge.
//
// The request is never sent from here and cannot be used for anything else:
// the platform puts it together again from [Host], [Body] and [ContentType],
// and asks STS whose it is. No secret key leaves this process.
package accountproof
