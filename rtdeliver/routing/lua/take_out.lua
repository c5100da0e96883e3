-- Takes a node out of some rows that it has left. `common.lua` runs before this.
--
-- ARGV[1]  prefix
--
-- Returns 1 if there are more such rows, otherwise 0.

local gone = redis.call('SRANDMEMBER', prefix .. 'gone')
if not gone then
  return 0
end
local node, number = string.match(gone, '^(.*):(%d+)$')
take_out(node, number)
publish_changes('')
return redis.call('EXISTS', prefix .. 'gone')
