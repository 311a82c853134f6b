package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/bytebpe"
	"github.com/permafrost-ml/permafrost/internal/wordpiece"
)

// digest hashes all that decides the ids of texts, a line for each fact.
type digest struct{ hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) wordPiece(vocab []string, o wordpiece.Options) {
	version := wordpiece.Version
	if o.Cased {
		version = wordpiece.CasedVersion
	}
	fmt.Fprintf(d, "%s unknown %q, %d tokens\n", version, o.Unknown, len(vocab))
	for _, token := range vocab {
		fmt.Fprintf(d, "%q\n", token)
	}
	for _, s := range o.Specials {
		fmt.Fprintf(d, "special %q %d\n", s.Text, s.ID)
	}
}

func (d digest) byteLevel(o bytebpe.Options) {
	fmt.Fprintf(d, "%s prefix space %t, %d tokens, %d merges\n", bytebpe.Version, o.PrefixSpace, len(o.Vocab), len(o.Merges))
	for _, token := range slices.Sorted(maps.Keys(o.Vocab)) {
		fmt.Fprintf(d, "%q %d\n", token, o.Vocab[token])
	}
	for _, m := range o.Merges {
		fmt.Fprintf(d, "%q %q\n", m[0], m[1])
	}
	for _, s := range o.Specials {
		fmt.Fprintf(d, "special %q %d %t %t\n", s.Text, s.ID, s.Left, s.Right)
	}
}

func (d digest) sum(t *Tokenizer) string {
	fmt.Fprintf(d, "open %d, close %d, pad %d\n", t.open, t.close, t.pad)
	return hex.EncodeToString(d.Sum(nil))
}
