import NodeAgent
