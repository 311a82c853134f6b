package static_test

import (
	"context"
	"fmt"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
)

func ExampleDefault() {
	ctx := context.Background()
	enc, err := static.Default().Open(ctx, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer enc.Close()

	batch := []encode.Input{
		{encode.TextValue("How do I reset my password?")},
		{encode.TextValue("I forgot my login credentials")},
		{encode.TextValue("The cat sleeps on the sofa")},
	}
	embeddings := make([]float32, len(batch)*static.Dim)
	if err := enc.Encode(ctx, batch, embeddings); err != nil {
		fmt.Println(err)
		return
	}
	question := embeddings[:static.Dim]
	for i := range batch[1:] {
		other := embeddings[(i+1)*static.Dim : (i+2)*static.Dim]
		cosine := float32(0)
		for d := range question {
			cosine += question[d] * other[d]
		}
		fmt.Printf("%.2f  %s\n", cosine, batch[i+1].Text())
	}
	// Output:
	// 0.37  I forgot my login credentials
	// 0.17  The cat sleeps on the sofa
}
