package serve

import (
	"crypto/tls"
	"fmt"
	"os"

	"github.com/postern-net/postern"
)

// othersRead are the bits of a mode by which anybody on the machine reads or
// replaces a file. A group may: on many systems one exists for this.
const othersRead = 0o007

// checkKey refuses a private key that anybody on the machine may read.
func checkKey(field, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if m := info.Mode().Perm(); m&othersRead != 0 {
		return &postern.Error{
			Code: postern.CodeInvalid, Field: field, Value: path, Message: fmt.Sprintf("everybody on the machine may use the private key (mode %04o)", m),
			Fix: "chmod 600 it, or 640 with a group for those who need it (in Kubernetes: defaultMode 0400 of the secret's volume)",
		}
	}
	return nil
}

// loadPair reads a certificate chain and its private key; prefix is that of their
// fields.
func loadPair(prefix, cert, key string) (tls.Certificate, error) {
	if err := checkKey(prefix+"key_file", key); err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return pair, fmt.Errorf("%scertificate_file: %w", prefix, err)
	}
	return pair, nil
}
