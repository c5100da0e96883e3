-- The first part of every script that changes the routing table.
--
-- Keys of the routing table; each begins with the prefix:
--
--   row:TOPIC    hash: node -> viewers
--   node:NODE    hash: url, incarnation, sequence, known, viewers; expires with the node's lease
--   topics:NODE  set of the topics whose rows contain the node
--   nodes        set of the nodes that have announced themselves and were not removed
--   changes      channel: topics whose row has gained or lost a node, joined by line breaks
--
-- A node has one lease for all its topics, so that the cost of a renewal does not grow with their
-- number. A node without `node:NODE` is dead. A dispatcher that finds a dead node in a row removes
-- the node.
--
-- ARGV[1]  prefix
-- ARGV[2]  node

local prefix, node = ARGV[1], ARGV[2]
local node_key, topics_key = prefix .. 'node:' .. node, prefix .. 'topics:' .. node

-- The topics to publish on the channel `changes`.
local changed = {}

local function remove_from_row(topic)
  redis.call('HDEL', prefix .. 'row:' .. topic, node)
  redis.call('SREM', topics_key, topic)
  changed[#changed + 1] = topic
end

local function remove_node()
  for _, topic in ipairs(redis.call('SMEMBERS', topics_key)) do
    remove_from_row(topic)
  end
  redis.call('DEL', node_key)
  redis.call('SREM', prefix .. 'nodes', node)
end

local function publish_changes()
  if #changed > 0 then
    redis.call('PUBLISH', prefix .. 'changes', table.concat(changed, '\n'))
  end
end
