// Prints random changes of partitions and the records that Kafka makes of them, for crates/metadata/testdata:
//   javac -cp "$LIBS/*" -d out .ci/PartitionChanges.java && java -cp "out:$LIBS/*" org.apache.kafka.controller.PartitionChanges 2000
// A line: metadata.version, ELR on, min ISR, election, who can lead; the partition: replicas, isr, leader, removing, adding, elr,
// last known, recovering; what is to change; the record: leader, isr, replicas, removing, adding, elr, last known, recovery state,
// how many directories. `~` is "no change", `-` an empty list.
package org.apache.kafka.controller;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.function.IntPredicate;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

import org.apache.kafka.common.DirectoryId;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.metadata.PartitionChangeRecord;
import org.apache.kafka.metadata.LeaderRecoveryState;
import org.apache.kafka.metadata.PartitionRegistration;
import org.apache.kafka.metadata.placement.PartitionAssignment;
import org.apache.kafka.server.common.ApiMessageAndVersion;
import org.apache.kafka.server.common.MetadataVersion;

public final class PartitionChanges {
    private static final Random random = new Random(966);

    public static void main(String[] args) {
        int count = Integer.parseInt(args[0]);
        for (int i = 0; i < count; i++) {
            String line = one();
            if (line == null) i--; else System.out.println(line);
        }
    }

    private static String one() {
        boolean elr = random.nextInt(3) > 0;
        int level = elr ? 23 + random.nextInt(8) : 7 + random.nextInt(24);
        List<Integer> nodes = IntStream.rangeClosed(1, 6).boxed().collect(Collectors.toList());
        Collections.shuffle(nodes, random);
        List<Integer> replicas = new ArrayList<>(nodes.subList(0, 1 + random.nextInt(5)));
        List<Integer> isr = some(replicas);
        int minIsr = 1 + random.nextInt(replicas.size());
        if (!elr && isr.isEmpty()) isr = new ArrayList<>(replicas.subList(0, 1));
        int leader = isr.isEmpty() || random.nextInt(4) == 0 ? -1 : isr.get(random.nextInt(isr.size()));
        List<Integer> eligible = new ArrayList<>();
        if (elr && isr.size() < minIsr) {
            List<Integer> out = new ArrayList<>(replicas);
            out.removeAll(isr);
            eligible = some(out);
            Collections.sort(eligible);
        }
        List<Integer> lastKnown = new ArrayList<>();
        if (elr && leader == -1 && random.nextBoolean()) lastKnown.add(replicas.get(random.nextInt(replicas.size())));
        List<Integer> adding = new ArrayList<>(), removing = new ArrayList<>();
        if (replicas.size() > 1 && random.nextInt(3) == 0) {
            for (int r : replicas) {
                int what = random.nextInt(3);
                if (what == 0) adding.add(r);
                if (what == 1) removing.add(r);
            }
            Collections.sort(adding);
            Collections.sort(removing);
            if (adding.size() == replicas.size() || removing.size() == replicas.size()) return null;
        }
        boolean recovering = isr.size() == 1 && random.nextInt(5) == 0;
        List<Integer> alive = some(nodes);
        PartitionChangeBuilder.Election election =
            PartitionChangeBuilder.Election.values()[random.nextInt(3)];

        Uuid[] directories = replicas.stream()
            .map(r -> level >= 17 ? new Uuid(7, 200 + r) : DirectoryId.MIGRATING).toArray(Uuid[]::new);
        PartitionRegistration partition = new PartitionRegistration.Builder()
            .setReplicas(ints(replicas)).setDirectories(directories).setIsr(ints(isr)).setLeader(leader)
            .setRemovingReplicas(ints(removing)).setAddingReplicas(ints(adding))
            .setElr(ints(eligible)).setLastKnownElr(ints(lastKnown))
            .setLeaderRecoveryState(recovering ? LeaderRecoveryState.RECOVERING : LeaderRecoveryState.RECOVERED)
            .setLeaderEpoch(5).setPartitionEpoch(9).build();

        String what;
        List<Integer> targetIsr = new ArrayList<>(isr);
        int node = nodes.get(random.nextInt(nodes.size()));
        int kind = random.nextInt(6);
        boolean leaves = kind == 0 || kind == 1;
        final int gone = leaves ? node : -1;
        IntPredicate canLead = r -> r != gone && alive.contains(r);
        PartitionChangeBuilder builder = new PartitionChangeBuilder(partition, Uuid.ZERO_UUID, 0, canLead,
            MetadataVersion.fromFeatureLevel((short) level), minIsr, elr);
        builder.setDefaultDirProvider(id -> DirectoryId.UNASSIGNED).setElection(election);
        switch (kind) {
            case 0:
                targetIsr.remove((Integer) node);
                builder.setTargetIsr(targetIsr);
                what = "leave:" + node;
                break;
            case 1:
                targetIsr.remove((Integer) node);
                builder.setTargetIsr(targetIsr).setUncleanShutdownReplicas(List.of(node));
                what = "restart:" + node;
                break;
            case 2: {
                if (leader == -1) return null;
                targetIsr = some(replicas);
                if (!targetIsr.contains(leader)) targetIsr.add(leader);
                boolean stays = recovering && targetIsr.size() == 1 && random.nextBoolean();
                builder.setTargetIsr(targetIsr)
                    .setTargetLeaderRecoveryState(stays ? LeaderRecoveryState.RECOVERING : LeaderRecoveryState.RECOVERED);
                what = "isr:" + list(targetIsr) + ":" + (stays ? 1 : 0);
                break;
            }
            case 3: {
                // One that takes the place of another is left out: see the crate.
                if (!adding.isEmpty() || !removing.isEmpty()) return null;
                List<Integer> wanted = new ArrayList<>(nodes);
                Collections.shuffle(wanted, random);
                wanted = wanted.subList(0, 1 + random.nextInt(4));
                PartitionReassignmentReplicas replicasOf = new PartitionReassignmentReplicas(
                    new PartitionAssignment(replicas, partition::directory),
                    new PartitionAssignment(wanted, id -> DirectoryId.UNASSIGNED));
                if (!replicasOf.replicas().equals(replicas)) builder.setTargetReplicas(replicasOf.replicas());
                if (!replicasOf.removing().isEmpty()) builder.setTargetRemoving(replicasOf.removing());
                if (!replicasOf.adding().isEmpty()) builder.setTargetAdding(replicasOf.adding());
                what = "reassign:" + list(wanted);
                break;
            }
            case 4: {
                if (adding.isEmpty() && removing.isEmpty()) return null;
                PartitionReassignmentRevert revert = new PartitionReassignmentRevert(partition);
                builder.setTargetIsr(revert.isr()).setTargetReplicas(revert.replicas())
                    .setTargetRemoving(List.of()).setTargetAdding(List.of());
                what = "cancel:" + (revert.unclean() ? 1 : 0);
                break;
            }
            default:
                what = "elect";
        }
        Optional<ApiMessageAndVersion> built = builder.build();
        String result = "nothing";
        if (built.isPresent()) {
            PartitionChangeRecord r = (PartitionChangeRecord) built.get().message();
            result = String.join("\t", r.leader() == -2 ? "~" : "" + r.leader(), list(r.isr()), list(r.replicas()),
                list(r.removingReplicas()), list(r.addingReplicas()), list(r.eligibleLeaderReplicas()),
                list(r.lastKnownElr()), r.leaderRecoveryState() == -1 ? "~" : "" + r.leaderRecoveryState(),
                r.directories() == null ? "~" : "" + r.directories().size());
        }
        return String.join("\t", "" + level, elr ? "1" : "0", "" + minIsr, election.name().toLowerCase(), list(alive),
            list(replicas), list(isr), "" + leader, list(removing), list(adding), list(eligible), list(lastKnown),
            recovering ? "1" : "0", what, result);
    }

    private static List<Integer> some(List<Integer> of) {
        return of.stream().filter(x -> random.nextInt(3) > 0).collect(Collectors.toCollection(ArrayList::new));
    }

    private static int[] ints(List<Integer> of) {
        return of.stream().mapToInt(Integer::intValue).toArray();
    }

    private static String list(List<Integer> of) {
        if (of == null) return "~";
        return of.isEmpty() ? "-" : of.stream().map(String::valueOf).collect(Collectors.joining(","));
    }
}
