package bert

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/permafrost-ml/permafrost/encode"
)

// OpenPreparer implements [encode.Preparing]: texts become the ids of their
// tokens, 4 bytes each, little endian.
func (m *model) OpenPreparer(ctx context.Context, _ int) (encode.Preparer, error) {
	enc, err := m.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", m.options.Dir, err)
	}
	return &preparer{enc: enc}, nil
}

// preparer tokenizes.
type preparer struct {
	enc *encoder // of which it uses the tokenizer only
	ids []int32
}

// Prepare implements [encode.Preparer]; size is the number of tokens.
func (p *preparer) Prepare(dst []byte, in encode.Input) ([]byte, int, error) {
	p.ids = p.enc.net.appendText(p.ids[:0], in, p.enc.maxLength)
	for _, id := range p.ids {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(id))
	}
	return dst, len(p.ids), nil
}

// Close implements [encode.Preparer].
func (p *preparer) Close() error { return p.enc.Close() }

// appendText appends the ids of an input's text, behind the model's own
// prompt.
func (n *network) appendText(ids []int32, in encode.Input, most int) []int32 {
	text := in.Text()
	if n.prompt != "" {
		text = n.prompt + text
	}
	return n.tokens.Append(ids, text, most)
}

// appendPrepared appends the ids of a prepared text.
func (n *network) appendPrepared(ids []int32, prepared []byte) ([]int32, error) {
	if len(prepared) == 0 || len(prepared)%4 != 0 || len(prepared)/4 > n.arch.maxTokens() {
		return ids, fmt.Errorf("%d bytes are no prepared text", len(prepared))
	}
	for ; len(prepared) > 0; prepared = prepared[4:] {
		id := binary.LittleEndian.Uint32(prepared)
		if id >= uint32(n.arch.vocabulary) {
			return ids, fmt.Errorf("a prepared text with the token %d, of %d", id, n.arch.vocabulary)
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}
