-- Takes a node out, with all its rows, unless another incarnation has replaced it. A dead node is
-- taken out whatever its incarnation. Comes after `common.lua`.
--
-- ARGV[1]  prefix
-- ARGV[2]  node
-- ARGV[3]  its incarnation
--
-- Returns 1.

local incarnation = redis.call('HGET', node_key, 'incarnation')
if not incarnation or incarnation == ARGV[3] then
  take_out_all()
  tell()
end
return 1
