// How long kfake, the fake of franz-go, takes until there is an address and until the first record is acknowledged.
// `kfake RUNS` prints the two times of each run in milliseconds; ../start_compare.py runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func once() error {
	started := time.Now()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation())
	if err != nil {
		return err
	}
	defer cluster.Close()
	ready := time.Since(started)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer client.Close()
	record := &kgo.Record{Topic: "first", Value: []byte("record")}
	if err := client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
		return err
	}
	fmt.Printf("%.2f %.2f\n", ready.Seconds()*1e3, time.Since(started).Seconds()*1e3)
	return nil
}

func main() {
	runs, err := strconv.Atoi(os.Args[1])
	for ; err == nil && runs > 0; runs-- {
		err = once()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
