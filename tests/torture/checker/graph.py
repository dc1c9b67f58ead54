"""Cycles in a graph: Tarjan's strongly connected components, without recursion."""

from collections import deque


def components(count, edges):
    """The strongly connected components with more than one vertex. `edges[v]`: successors of v."""
    index, low = [0] * count, [0] * count
    on_stack = bytearray(count)
    stack, found, counter = [], [], 1
    for root in range(count):
        if index[root]:
            continue
        index[root] = low[root] = counter
        counter += 1
        stack.append(root)
        on_stack[root] = 1
        work = [(root, iter(edges[root]))]
        while work:
            vertex, rest = work[-1]
            for after in rest:
                if not index[after]:
                    index[after] = low[after] = counter
                    counter += 1
                    stack.append(after)
                    on_stack[after] = 1
                    work.append((after, iter(edges[after])))
                    break
                if on_stack[after] and index[after] < low[vertex]:
                    low[vertex] = index[after]
            else:
                work.pop()
                if work and low[vertex] < low[work[-1][0]]:
                    low[work[-1][0]] = low[vertex]
                if low[vertex] == index[vertex]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = 0
                        component.append(member)
                        if member == vertex:
                            break
                    if len(component) > 1:
                        found.append(component)
    return found


def shortest_cycle(component, edges):
    """The vertices of a short cycle within a component, beginning anywhere."""
    members = set(component)
    best = None
    for start in component[:50]:
        came = {start: None}
        queue = deque([start])
        while queue:
            vertex = queue.popleft()
            if start in edges[vertex]:
                path = []
                while vertex is not None:
                    path.append(vertex)
                    vertex = came[vertex]
                if best is None or len(path) < len(best):
                    best = path[::-1]
                break
            for after in edges[vertex]:
                if after in members and after not in came:
                    came[after] = vertex
                    queue.append(after)
    return best or list(component)
