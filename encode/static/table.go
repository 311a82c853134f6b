package static

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/wordpiece"
)

// artefact is the distilled model; tools/distill/distill.py writes it and
// tells its layout.
//
//go:embed static.bin
var artefact []byte

const magic = "PFSTATIC"

var errArtefact = errors.New("malformed artefact")

// table is an artefact taken apart: views of its bytes and the tokenizer.
type table struct {
	rows   []byte // Dim bytes a token: value + 128
	scales []byte // a uint16 a token
	tokens *wordpiece.Tokenizer
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// parse reads an artefact; the table keeps data.
func parse(data []byte) (*table, error) {
	const head = len(magic) + 12
	if len(data) < head || string(data[:len(magic)]) != magic {
		return nil, errArtefact
	}
	rows := uint64(binary.LittleEndian.Uint32(data[len(magic):]))
	dim := binary.LittleEndian.Uint32(data[len(magic)+4:])
	words := uint64(binary.LittleEndian.Uint32(data[len(magic)+8:]))
	if dim != Dim || uint64(len(data)) != uint64(head)+rows*(Dim+2)+words {
		return nil, errArtefact
	}
	rest := data[head:]
	t := &table{rows: rest[:rows*Dim], scales: rest[rows*Dim : rows*(Dim+2)]}
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(rest[rows*(Dim+2):])))
	if err != nil {
		return nil, fmt.Errorf("vocabulary: %w", err)
	}
	vocab := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if uint64(len(vocab)) != rows {
		return nil, fmt.Errorf("%w: %d tokens for %d rows", errArtefact, len(vocab), rows)
	}
	if t.tokens, err = wordpiece.New(vocab); err != nil {
		return nil, err
	}
	return t, nil
}
