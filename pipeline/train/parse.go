package train

import (
	"encoding/json"
	"fmt"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
)

// ParseOptimizer returns the optimizer declared by a type and the JSON object
// of its options, as [Optimizer.Params] prints them. An unknown option is an
// error.
func ParseOptimizer(typ string, params json.RawMessage) (Optimizer, error) {
	if typ != (Adam{}).Type() {
		return nil, fmt.Errorf("unknown optimizer type %q (known: adam)", typ)
	}
	a, err := strictjson.Decode[Adam](params)
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", typ, err)
	}
	return a, nil
}
