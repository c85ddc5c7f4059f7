// VirtualCluster
