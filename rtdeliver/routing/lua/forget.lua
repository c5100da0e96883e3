-- Removes a node, unless another incarnation has replaced it. A dead node is removed whatever its
-- incarnation. `common.lua` runs before this.
--
-- ARGV[1]  prefix
-- ARGV[2]  node
-- ARGV[3]  its incarnation
--
-- Returns 1.

local incarnation = redis.call('HGET', key_of('node', ARGV[2]), 'incarnation')
if not incarnation or incarnation == ARGV[3] then
  remove_node(ARGV[2])
  publish_changes('')
end
return 1
